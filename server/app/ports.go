package app

import (
	"context"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/device"
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

// epoch is the life of the log as last read.
type epoch struct{ v atomic.Pointer[string] }

func (e *epoch) Current() string {
	if s := e.v.Load(); s != nil {
		return *s
	}
	return ""
}

func (e *epoch) set(s string) { e.v.Store(&s) }

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

// publisher is committer.Publisher: the delivery path, and the cache of states, whose senders' watermarks moved.
type publisher struct {
	*offline.Publisher
	cached *statecache.Store
}

// Publish implements committer.Publisher.
func (p publisher) Publish(entries []message.Entry) {
	p.cached.Sent(entries)
	p.Publisher.Publish(entries)
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
