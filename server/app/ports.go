package app

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/hints"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/roster"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// What follows joins parts that do not know each other.

// epoch is the life of the log as last read: by a new connection to the database, or by the feed.
type epoch struct {
	v atomic.Pointer[string]

	telling  sync.RWMutex           // held to write v; held to read by those who tell of what is of one life: see in
	settled  atomic.Pointer[string] // the one whose change was told to all
	changing sync.Mutex             // one change at a time
	changed  func(from, to string)  // told of each, with changing held; set before the first epoch is
}

func (e *epoch) Current() string {
	if s := e.v.Load(); s != nil {
		return *s
	}
	return ""
}

// Settled implements cursor.Life: what changed has told everybody.
func (e *epoch) Settled() string {
	if s := e.settled.Load(); s != nil {
		return *s
	}
	return ""
}

func (e *epoch) set(s string) {
	e.v.Store(&s)
	e.settled.Store(&s)
}

// in runs tell if life is the present one or not known (of a connection from before the schema was made), and keeps the log from going over to another one meanwhile: what tell tells comes
// before all are made to forget the former life, or not at all. tell must not wait for a connection to the database.
func (e *epoch) in(life string, tell func()) bool {
	e.telling.RLock()
	defer e.telling.RUnlock()
	if life != "" && life != e.Current() {
		return false
	}
	tell()
	return true
}

// observe goes over to an epoch that was read, and reports whether it was another one than before. It returns when all
// have been told. Before the first epoch is set it does nothing.
func (e *epoch) observe(to string) bool {
	if now := e.settled.Load(); now == nil || *now == to {
		return false
	}
	e.changing.Lock()
	defer e.changing.Unlock()
	from := e.Current()
	if from == to {
		return false
	}
	e.telling.Lock() // what of the former life was being told is told when everybody is made to forget it
	e.v.Store(&to)
	e.telling.Unlock()
	e.changed(from, to)
	e.settled.Store(&to)
	return true
}

// streamSessions is stream.Sessions: positions as stored, with the acks of this node that are not yet, and views from the domain.
type streamSessions struct {
	active   roster.SessionLister
	at       storage.Positions
	acks     *cursor.Acks
	sessions *session.Service
}

func (s streamSessions) ActiveSessionIDs(ctx context.Context, userID string) ([]uuid.UUID, error) {
	return s.active.ActiveSessionIDs(ctx, userID)
}

func (s streamSessions) Positions(ctx context.Context, userID, deviceID string, ids []uuid.UUID) ([]stream.Position, error) {
	waiting := s.acks.Waiting(userID, deviceID) // before the stored ones are read
	positions, err := s.at.Positions(ctx, userID, deviceID, ids)
	withAcks(positions, waiting)
	return positions, err
}

func (s streamSessions) View(ctx context.Context, userID string, id uuid.UUID) (*parleyv1.Session, error) {
	return s.sessions.View(ctx, userID, id)
}

// streamDevices is stream.Devices.
type streamDevices struct {
	positions storage.Positions
	seen      *device.Sightings
	acks      *cursor.Acks
	hints     *hints.Hints
	clock     clockwork.Clock
}

func (s streamDevices) StartSync(ctx context.Context, userID, deviceID string, at []stream.Cursor) error {
	s.acks.Forget(userID, deviceID)
	return s.positions.StartSync(ctx, userID, deviceID, at, s.clock.Now())
}

func (s streamDevices) Seen(userID, deviceID string, number int64) {
	s.seen.Seen(userID, deviceID, number)
	s.hints.Started(userID, deviceID, number)
}

// streamStarts is stream.Starter: what is stored, and the acks of this node that are not yet.
type streamStarts struct {
	positions storage.Positions
	acks      *cursor.Acks
}

func (s streamStarts) Starts(ctx context.Context, asks []stream.Ask) ([]stream.Start, error) {
	waiting := make([]map[uuid.UUID]int64, len(asks))
	for i, a := range asks { // before the stored ones are read
		waiting[i] = s.acks.Waiting(a.UserID, a.DeviceID)
	}
	starts, err := s.positions.Starts(ctx, asks)
	for i, st := range starts {
		if !st.Synced || asks[i].Fresh {
			continue
		}
		withAcks(st.Positions, waiting[i])
	}
	return starts, err
}

// withAcks moves a device's cursors to the acks that wait to be stored.
func withAcks(positions []stream.Position, waiting map[uuid.UUID]int64) {
	for i := range positions {
		p := &positions[i]
		if seq, ok := waiting[p.SessionID]; ok && (!p.HasCursor || seq > p.Acked) {
			p.Acked, p.HasCursor = seq, true
		}
	}
}

// publisher is committer.Publisher: the delivery path, and the cache of states, whose senders' watermarks moved. What was
// committed in a former life of the log goes nowhere.
type publisher struct {
	*offline.Publisher
	life     *epoch
	cached   *statecache.Store
	underway *underway
}

// Publish implements committer.Publisher.
func (p publisher) Publish(epoch string, entries []message.Entry) {
	p.life.in(epoch, func() {
		p.cached.Sent(entries)
		p.Publisher.Publish(entries)
	})
	p.underway.published(entries)
}

// DirectStarted implements committer.Publisher.
func (p publisher) DirectStarted(epoch string, sessionID uuid.UUID, users [2]string) {
	p.life.in(epoch, func() { p.Publisher.DirectStarted(sessionID, users) })
}

// streamStates is stream.States.
type streamStates struct{ states *state.Service }

func (s streamStates) StatesOf(ctx context.Context, userID string, ranges []message.Range) (stream.StateOf, error) {
	of, err := s.states.StatesOf(ctx, userID, ranges)
	if err != nil {
		return nil, err
	}
	return func(e *wire.Entry) *parleyv1.MessageState {
		return stream.MessageState(of(e.SessionID, e.Seq, e.SenderID == userID, e.Type.Countable() && !e.IsDeleted))
	}, nil
}

// nodeStats is rpc.NodeStats.
type nodeStats struct {
	*stream.Manager
	log *committer.Committer
}

func (n nodeStats) MessagesSent() int64 { return n.log.Sent() }
