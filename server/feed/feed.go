// Package feed reads what has committed, whoever committed it: the commit log and the relation changes, by snapshot
// difference. It makes every hint unnecessary for correctness: an entry whose node died between commit and delivery, a
// commit whose answer got lost, and a change made by plain SQL are found here within one poll.
//
// Snapshot difference: a poll remembers PostgreSQL's snapshot; the next one reads the rows of transactions that are
// visible in its own snapshot and were not in the remembered one. Unlike reading id > last it misses no row that
// committed late, and unlike waiting for the oldest transaction it never stalls behind an idle one.
//
// One goroutine polls and calls the Sink; only Handled, Wake and Age are called from elsewhere.
package feed

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Interval is the time between polls; a Wake makes the next one come at once.
	Interval = time.Second
	// Urgent is the time between polls while nothing else tells what other nodes commit.
	Urgent = 50 * time.Millisecond
	// Retention is how long rows stay after they were committed. A node that did not poll for half of it takes everything
	// as changed.
	Retention = 10 * time.Minute
	// trimEvery is how often each node trims.
	trimEvery = time.Minute
	// pollTimeout bounds one poll.
	pollTimeout = 5 * time.Second
	// maxHandled bounds what Handled remembers; past it rows are told twice, which receivers stand.
	maxHandled = 100_000
)

// Commit is one row of the commit log: which sessions moved to which head, and whose states changed where.
type Commit struct {
	ID            int64
	Sessions      []uuid.UUID
	Heads         []int64
	StateUsers    []string
	StateSessions []uuid.UUID
	SentUsers     []string // who sent, and where: sending moves the own watermark
	SentSessions  []uuid.UUID
	Recalls       []uuid.UUID // sessions in which something was recalled
	StreamUsers   []string    // whose streams began, on which devices, and the streams' numbers
	StreamDevices []string
	StreamNumbers []int64
}

// RelationKind says which relation changed; the numbers are those of relation_change.kind.
type RelationKind int16

// The relations.
const (
	User          RelationKind = 1
	UserToUser    RelationKind = 2
	UserToDevice  RelationKind = 3
	UserToSession RelationKind = 4
)

// Relation is one row of relation_change. OtherID is the peer, the device or the session.
type Relation struct {
	Kind    RelationKind
	UserID  string
	OtherID string
}

// Batch is what one poll found.
type Batch struct {
	Snapshot  string // where the next poll starts
	Epoch     string
	Commits   []Commit
	Relations []Relation
}

// Store polls. Implemented by storage.
type Store interface {
	// Poll returns what has become visible since the snapshot; an empty one means that only the present snapshot and
	// epoch are asked for.
	Poll(ctx context.Context, since string) (Batch, error)
	// Recalls returns the sessions in which something was recalled within the retention.
	Recalls(ctx context.Context) ([]uuid.UUID, error)
	// Trim deletes rows that were committed before the snapshot was taken, and returns how many.
	Trim(ctx context.Context, until string) (int64, error)
}

// Sink is told what changed. Its methods must not block for long: they delay the feed.
type Sink interface {
	// Advanced: the session's head is at least head in this life of the log, which may be over: a poll may still have been
	// answered by the former primary. It may be told later where the entries are about to come anyway.
	Advanced(epoch string, sessionID uuid.UUID, head int64)
	// Recalled: something was recalled in the session.
	Recalled(sessionID uuid.UUID)
	// StateChanged: the user's message states in the session changed.
	StateChanged(ctx context.Context, userID string, sessionID uuid.UUID)
	// StreamStarted: a stream of the device began, here or elsewhere, in this life of the log. The higher the number, the
	// newer the stream.
	StreamStarted(epoch, userID, deviceID string, number int64)
	// RelationsChanged: these rows changed, in the order of their ids.
	RelationsChanged(ctx context.Context, changed []Relation)
	// Lost: changes may have been missed; everything must be read again.
	Lost()
	// EpochChanged: the log has another life; positions of the former one mean nothing.
	EpochChanged(epoch string)
}

// Watcher is what a Sink may be besides: it is told how far the feed has got.
type Watcher interface {
	// Polled: a poll that began at that time has succeeded, and all that it found was told.
	Polled(ctx context.Context, began time.Time)
}

// Feed polls.
type Feed struct {
	store Store
	sink  Sink
	clock clockwork.Clock
	log   *slog.Logger
	wake  chan struct{}
	pace  chan time.Duration // room for one: the poller takes the latest

	mu       sync.Mutex
	handled  map[int64]struct{} // rows that were told here, noted since the last poll began
	older    map[int64]struct{} // the same of before, while that poll is under way; after one that failed, until the next
	lastPoll time.Time

	since    string // the poller's own, like what follows
	epoch    string
	marks    []mark
	lastTrim time.Time
}

// mark is a snapshot and when it was taken.
type mark struct {
	at       time.Time
	snapshot string
}

// New returns a feed that Run starts. reg may be nil.
func New(store Store, sink Sink, clock clockwork.Clock, log *slog.Logger, reg prometheus.Registerer) *Feed {
	f := &Feed{store: store, sink: sink, clock: clock, log: log, wake: make(chan struct{}, 1),
		pace: make(chan time.Duration, 1), handled: make(map[int64]struct{})}
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_feed_age_seconds",
			Help: "Time since the last poll that succeeded began."}, func() float64 { return f.Age().Seconds() }))
	}
	return f
}

// Start takes the snapshot that polls go on from. What commits afterwards is told.
func (f *Feed) Start(ctx context.Context) (epoch string, err error) {
	began := f.clock.Now()
	b, err := f.store.Poll(ctx, "")
	if err != nil {
		return "", err
	}
	recalls, err := f.store.Recalls(ctx) // whoever made them may have died before the caches forgot them
	if err != nil {
		return "", err
	}
	f.since, f.epoch = b.Snapshot, b.Epoch
	f.polled(began)
	f.recalled(recalls)
	return b.Epoch, nil
}

func (f *Feed) recalled(ids []uuid.UUID) {
	for _, id := range ids {
		f.sink.Recalled(id)
	}
}

// Run polls until ctx ends. Start must have succeeded.
func (f *Feed) Run(ctx context.Context) {
	tick := f.clock.NewTicker(Interval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.Chan():
		case <-f.wake:
		case every := <-f.pace:
			tick.Reset(every)
			continue
		}
		err := f.poll(ctx)
		if failed := err != nil && ctx.Err() == nil; failed != failing {
			failing = failed
			if failed {
				f.log.WarnContext(ctx, "feed interrupted", "error", err)
			} else {
				f.log.InfoContext(ctx, "feed goes on")
			}
		}
	}
}

// Wake makes the next poll come at once.
func (f *Feed) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// SetUrgent makes polls come every Urgent (true) or every Interval (false). Not to be called by two goroutines at once.
func (f *Feed) SetUrgent(urgent bool) {
	every := Interval
	if urgent {
		every = Urgent
	}
	select {
	case <-f.pace:
	default:
	}
	f.pace <- every
}

// Handled tells that the state changes of a commit_log row were delivered here already.
func (f *Feed) Handled(commitLogID int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.handled)+len(f.older) < maxHandled {
		f.handled[commitLogID] = struct{}{}
	}
}

// begun notes that a poll begins: what is noted from now on is for the next one, too.
func (f *Feed) begun() {
	f.mu.Lock()
	defer f.mu.Unlock()
	older := f.handled
	maps.Copy(older, f.older)
	f.older, f.handled = older, make(map[int64]struct{})
}

// done notes that a poll has succeeded and all that it found was told. Rows that were noted before it began have committed
// before it began, so it has found them or an earlier one has, before they were noted: nobody will ask for them again.
func (f *Feed) done() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.older = nil
}

// Age is how long ago the last poll that succeeded began.
func (f *Feed) Age() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clock.Since(f.lastPoll)
}

// polled notes that a poll has succeeded. What it has found is as of when it began: it may have been held up since.
func (f *Feed) polled(began time.Time) {
	f.mu.Lock()
	f.lastPoll = began
	f.mu.Unlock()
}

func (f *Feed) poll(ctx context.Context) error {
	pollCtx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	away := f.Age() > Retention/2
	since := f.since
	if away {
		since = ""
	}
	began := f.clock.Now()
	f.begun()
	b, err := f.store.Poll(pollCtx, since)
	if err != nil {
		return err
	}
	var recalls []uuid.UUID
	if away {
		if recalls, err = f.store.Recalls(pollCtx); err != nil {
			return err // nothing was told, so the next poll is told that rows may be gone, too
		}
	}
	f.since = b.Snapshot
	f.polled(began)
	if b.Epoch != f.epoch {
		f.log.WarnContext(ctx, "the database's epoch changed", "from", f.epoch, "to", b.Epoch)
		f.epoch = b.Epoch
		f.sink.EpochChanged(b.Epoch)
	}
	if away {
		f.sink.Lost()
		f.recalled(recalls)
	}
	f.tellMoved(ctx, b)
	for _, c := range b.Commits {
		for i, id := range c.Sessions {
			f.sink.Advanced(b.Epoch, id, c.Heads[i])
		}
		for _, id := range c.Recalls {
			f.sink.Recalled(id)
		}
		for i, user := range c.StreamUsers {
			f.sink.StreamStarted(b.Epoch, user, c.StreamDevices[i], c.StreamNumbers[i])
		}
		if len(c.StateUsers) == 0 || f.wasHandled(c.ID) {
			continue
		}
		for i, user := range c.StateUsers {
			f.sink.StateChanged(ctx, user, c.StateSessions[i])
		}
	}
	f.done()
	if len(b.Relations) > 0 {
		f.sink.RelationsChanged(ctx, b.Relations)
	}
	if w, ok := f.sink.(Watcher); ok {
		w.Polled(ctx, began)
	}
	return f.trim(ctx)
}

func (f *Feed) wasHandled(id int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.handled[id]
	_, before := f.older[id]
	delete(f.handled, id)
	delete(f.older, id)
	return ok || before
}

// trim deletes what was committed longer than Retention ago. It goes by snapshots, not by times in rows, since a row's
// transaction may have committed long after the row was written.
func (f *Feed) trim(ctx context.Context) error {
	now := f.clock.Now()
	if now.Sub(f.lastTrim) < trimEvery {
		return nil
	}
	f.lastTrim = now
	f.marks = append(f.marks, mark{now, f.since})
	until := ""
	for len(f.marks) > 0 && now.Sub(f.marks[0].at) > Retention {
		until, f.marks = f.marks[0].snapshot, f.marks[1:]
	}
	if until == "" {
		return nil
	}
	_, err := f.store.Trim(ctx, until)
	return err
}
