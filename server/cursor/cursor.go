// Package cursor keeps how far each device has got. Acks are unary, many and small, so they gather in memory and are
// written behind, as one statement a second or so; a tail lost in a crash only means that something is delivered again.
//
// A cursor never moves back and never passes what its user can see: a position that does refuses the whole call, before
// anything is kept. Acks.mu guards what waits; one goroutine (Run) writes it, and a stream
// that starts looks at what waits for its device.
package cursor

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

const (
	// FlushInterval is how often acks are written.
	FlushInterval = time.Second
	// MaxWaiting is how many cursors may wait to be written; past it acks are refused with OVERLOADED until a flush
	// succeeds.
	MaxWaiting = 200_000
	// maxFlush is how many cursors one statement writes.
	maxFlush     = 5_000
	flushTimeout = 10 * time.Second
)

// Ack says that a device has everything of a session up to Seq.
type Ack struct {
	SessionID uuid.UUID
	Seq       int64
}

// Store writes cursors, each only forward.
type Store interface {
	// SaveCursors writes nothing where the log has another life than epoch.
	SaveCursors(ctx context.Context, epoch string, users, devices []string, sessions []uuid.UUID, seqs []int64) error
}

// Limits tells what a user can see.
type Limits interface {
	// Seen returns what the user can see of each session and the session's head; sessions the user never was in are
	// missing.
	Seen(ctx context.Context, userID string, ids []uuid.UUID) (map[uuid.UUID]Seen, error)
}

// Life tells the epoch whose positions are kept: the one for which ForgetAll has been called, where it changes.
type Life interface{ Settled() string }

// Seen is what a user can see of a session.
type Seen struct {
	Visible session.Visibility
	Head    int64
}

type device struct{ userID, deviceID string }

// Part is what the right to read depends on; ok says whether there is a Seen.
func (s Seen) Part(ok bool) session.Part {
	return session.Part{Known: ok, Active: s.Visible.Contains(session.Open)}
}

// Acks takes acknowledgements. Safe for concurrent use.
type Acks struct {
	store  Store
	limits Limits
	life   Life
	clock  clockwork.Clock
	log    *slog.Logger

	// flushing is held while all that waits is taken and written, so that whoever forgets a device does not overtake it.
	// Before mu.
	flushing sync.Mutex

	mu      sync.Mutex
	waiting map[device]map[uuid.UUID]int64
	writing map[device]map[uuid.UUID]int64 // taken, and perhaps not committed yet; its maps do not change
	count   int
	lives   int // counts ForgetAll
}

// New returns an Acks that Run writes out.
func New(store Store, limits Limits, life Life, clock clockwork.Clock, log *slog.Logger) *Acks {
	return &Acks{store: store, limits: limits, life: life, clock: clock, log: log, waiting: make(map[device]map[uuid.UUID]int64)}
}

var full = refusal.New(refusal.Overloaded, "Too many acknowledgements wait to be written; repeat the call later.",
	"retry_after_ms", "1000")

var over = refusal.New(refusal.Unavailable, "The database changed while the acknowledgements were looked at; repeat the call.",
	"retry_after_ms", "100")

var errEpoch = errors.New("the log has another life now")

// Ack takes acknowledgements of one device: all of them or, with a refusal, none.
func (a *Acks) Ack(ctx context.Context, userID, deviceID string, acks []Ack) error {
	ids := make([]uuid.UUID, len(acks))
	for i, k := range acks {
		ids[i] = k.SessionID
	}
	a.mu.Lock()
	life := a.lives
	a.mu.Unlock()
	seen, err := a.limits.Seen(ctx, userID, ids)
	if err != nil {
		return err
	}
	for _, k := range acks {
		s, ok := seen[k.SessionID]
		if err := session.Authorize(session.Read, s.Part(ok)); err != nil {
			return err
		}
		if last := s.Visible.Last(s.Head); k.Seq > last {
			return refusal.New(refusal.CursorBeyondHead, "This position is past what you can see.",
				"session_id", k.SessionID.String(), "head_seq", strconv.FormatInt(last, 10))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if life != a.lives {
		return over
	}
	if a.count+len(acks) > MaxWaiting {
		return full
	}
	a.keep(device{userID, deviceID}, acks)
	return nil
}

// keep merges acks into what waits. The lock is held.
func (a *Acks) keep(d device, acks []Ack) {
	m := a.waiting[d]
	if m == nil {
		m = make(map[uuid.UUID]int64, len(acks))
		a.waiting[d] = m
	}
	for _, k := range acks {
		have, ok := m[k.SessionID]
		if !ok {
			a.count++
		}
		if !ok || k.Seq > have {
			m[k.SessionID] = k.Seq
		}
	}
}

// Waiting returns the cursors of one device that may not be written yet; nil for none. Whoever reads the written ones
// afterwards knows both: what is missing here was committed before.
func (a *Acks) Waiting(userID, deviceID string) map[uuid.UUID]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := device{userID, deviceID}
	writing, waiting := a.writing[d], a.waiting[d]
	if len(writing)+len(waiting) == 0 {
		return nil
	}
	out := make(map[uuid.UUID]int64, len(writing)+len(waiting))
	maps.Copy(out, writing)
	for id, seq := range waiting {
		out[id] = max(out[id], seq)
	}
	return out
}

// Forget drops what waits for one device: its cursors start afresh.
func (a *Acks) Forget(userID, deviceID string) {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	d := device{userID, deviceID}
	a.count -= len(a.waiting[d])
	delete(a.waiting, d)
}

// ForgetAll drops what waits, and what is being written should that fail: positions of a log's life that is over. It waits
// for no writing, since the writing may wait for a connection and the connection for this.
func (a *Acks) ForgetAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting, a.writing, a.count = make(map[device]map[uuid.UUID]int64), nil, 0
	a.lives++
}

// Run writes acks behind until ctx ends, and what is left then.
func (a *Acks) Run(ctx context.Context) {
	tick := a.clock.NewTicker(FlushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.Chan():
			a.flushAll(ctx)
		case <-ctx.Done():
			a.flushAll(context.WithoutCancel(ctx))
			return
		}
	}
}

func (a *Acks) flushAll(ctx context.Context) {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	epoch := a.life.Settled() // before: what is then taken is of this life or a later one, never of a former one
	a.mu.Lock()
	all := a.waiting
	a.waiting, a.writing, a.count = make(map[device]map[uuid.UUID]int64), all, 0
	life := a.lives
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.writing = nil
		a.mu.Unlock()
	}()
	if len(all) == 0 {
		return
	}
	if err := a.write(ctx, life, epoch, all); err != nil {
		a.log.WarnContext(ctx, "cursors not written, trying again", "devices", len(all), "error", err)
	}
}

// write writes cursors; those that could not be written wait again, unless the life that they belong to is over.
func (a *Acks) write(ctx context.Context, life int, epoch string, all map[device]map[uuid.UUID]int64) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	var users, devices []string
	var sessions []uuid.UUID
	var seqs []int64
	var failed error
	send := func() {
		if len(seqs) == 0 || failed != nil {
			return
		}
		failed = a.store.SaveCursors(ctx, epoch, users, devices, sessions, seqs)
		users, devices, sessions, seqs = nil, nil, nil, nil
	}
	for d, m := range all {
		for id, seq := range m {
			users, devices = append(users, d.userID), append(devices, d.deviceID)
			sessions, seqs = append(sessions, id), append(seqs, seq)
			if len(seqs) == maxFlush {
				send()
			}
		}
	}
	send()
	if failed == nil && a.life.Settled() != epoch {
		failed = errEpoch
	}
	if failed == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if life != a.lives {
		return failed
	}
	for d, m := range all { // writing some of them twice does no harm
		acks := make([]Ack, 0, len(m))
		for id, seq := range m {
			acks = append(acks, Ack{id, seq})
		}
		a.keep(d, acks)
	}
	return failed
}
