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
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/roster"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// What follows joins parts that do not know each other.

// epoch is the life of the log as last read: by a new connection to the database, or by the feed.
type epoch struct {
	v atomic.Pointer[string]

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

func (e *epoch) set(s string) {
	e.v.Store(&s)
	e.settled.Store(&s)
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
	e.v.Store(&to)
	e.changed(from, to)
	e.settled.Store(&to)
	return true
}

// streamSessions is stream.Sessions: positions from storage, views from the domain.
type streamSessions struct {
	active   roster.SessionLister
	at       storage.Positions
	sessions *session.Service
}

func (s streamSessions) ActiveSessionIDs(ctx context.Context, userID string) ([]uuid.UUID, error) {
	return s.active.ActiveSessionIDs(ctx, userID)
}

func (s streamSessions) Positions(ctx context.Context, userID, deviceID string, ids []uuid.UUID) ([]stream.Position, error) {
	return s.at.Positions(ctx, userID, deviceID, ids)
}

func (s streamSessions) View(ctx context.Context, userID string, id uuid.UUID) (*parleyv1.Session, error) {
	return s.sessions.View(ctx, userID, id)
}

// streamDevices is stream.Devices.
type streamDevices struct {
	positions storage.Positions
	devices   *device.Service
	acks      *cursor.Acks
	clock     clockwork.Clock
}

func (s streamDevices) Synced(ctx context.Context, userID, deviceID string) (bool, error) {
	return s.positions.Synced(ctx, userID, deviceID)
}

func (s streamDevices) StartSync(ctx context.Context, userID, deviceID string, at []stream.Cursor) error {
	s.acks.Forget(userID, deviceID)
	return s.positions.StartSync(ctx, userID, deviceID, at, s.clock.Now())
}

func (s streamDevices) Seen(ctx context.Context, userID, deviceID string) error {
	return s.devices.Seen(ctx, userID, deviceID)
}

// streamStates is stream.States.
type streamStates struct{ states *state.Service }

var states = [2][2]*parleyv1.MessageState{ // shared, never changed
	{{}, {IsDeleted: true}},
	{{IsRead: true}, {IsRead: true, IsDeleted: true}},
}

func (s streamStates) StatesOf(ctx context.Context, userID string, ranges []message.Range) (func(*wire.Entry) *parleyv1.MessageState, error) {
	of, err := s.states.StatesOf(ctx, userID, ranges)
	if err != nil {
		return nil, err
	}
	index := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return func(e *wire.Entry) *parleyv1.MessageState {
		read, deleted := of(e.SessionID, e.Seq, e.SenderID == userID, e.Type.Countable() && !e.IsDeleted)
		return states[index(read)][index(deleted)]
	}, nil
}

func (s streamStates) UnreadTotal(ctx context.Context, userID string) (int64, error) {
	total, _, err := s.states.Unread(ctx, userID, nil)
	return total, err
}

// nodeStats is rpc.NodeStats.
type nodeStats struct {
	*stream.Manager
	log *committer.Committer
}

func (n nodeStats) MessagesSent() int64 { return n.log.Sent() }
