package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/hub"
	"github.com/parley-im/parley/server/relation"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/stream"
)

// shaky is what the feed's sink reads from, away at times.
type shaky struct {
	away  bool
	asked []string // devices that ListRefused was asked about while it was there
}

var errAway = errors.New("away")

func (s *shaky) Views(_ context.Context, _ string, ids []uuid.UUID) (out []state.View, _ error) {
	if s.away {
		return nil, errAway
	}
	for _, id := range ids {
		out = append(out, state.View{SessionID: id, Active: true, ReadSeq: 7})
	}
	return out, nil
}

func (s *shaky) ListRefused(_ context.Context, users, devices []string) ([]device.Refused, error) {
	if s.away {
		return nil, errAway
	}
	for i := range users {
		s.asked = append(s.asked, users[i]+"/"+devices[i])
	}
	return nil, nil
}

// shakyPeers is the relations' side of it.
type shakyPeers struct{ *shaky }

func (s shakyPeers) Views(_ context.Context, links []relation.Link) ([]relation.Relation, error) {
	if s.away {
		return nil, errAway
	}
	return make([]relation.Relation, len(links)), nil
}

// listener is a user's stream that notes what it is told.
type listener struct{ told []*parleyv1.Event }

func (*listener) DeviceID() string            { return "d" }
func (*listener) Joined(uuid.UUID)            {}
func (l *listener) Notify(ev *parleyv1.Event) { l.told = append(l.told, ev) }
func (*listener) Passed(*parleyv1.Event)      {}
func (l *listener) states() (seqs []int64) {
	for _, ev := range l.told {
		if st := ev.GetState(); st != nil {
			seqs = append(seqs, st.GetReadSeq())
		}
	}
	return seqs
}

func newShakySink(t *testing.T) (*feedSink, *shaky, *listener) {
	t.Helper()
	local, s, l := hub.New(), &shaky{}, &listener{}
	local.AttachUser("alice", l)
	log := slog.New(slog.DiscardHandler)
	return &feedSink{hub: local, states: s, devices: s, relations: shakyPeers{s}, owed: newOwed(), log: log,
		streams: stream.NewManager(stream.Config{}, stream.Ports{Hub: local, Clock: clockwork.NewRealClock(), Log: log})}, s, l
}

// What could not be read when the feed told of it is told with a later poll, once.
func TestWhatCouldNotBeReadIsToldLater(t *testing.T) {
	f, s, l := newShakySink(t)
	s.away = true
	f.StateChanged(t.Context(), "alice", uuid.New())
	f.StateChanged(t.Context(), "nobody here", uuid.New())
	f.tellRelations(t.Context(), []relation.Link{{UserID: "alice", PeerID: "bob"}})
	f.endRefused(t.Context(), []string{"alice"}, []string{"d"})
	f.settle(t.Context()) // still away
	require.Empty(t, l.told)
	require.Equal(t, 3, f.owed.size())

	s.away = false
	f.settle(t.Context())
	require.Equal(t, []int64{7}, l.states())
	require.Len(t, l.told, 2, "the relation too")
	require.Equal(t, []string{"alice/d"}, s.asked, "whether the device may still be here")
	require.Zero(t, f.owed.size())
	f.settle(t.Context())
	require.Len(t, l.told, 2)
}

func TestWhatIsOwedIsBounded(t *testing.T) {
	f, s, _ := newShakySink(t)
	s.away = true
	for range maxOwed + 5 {
		f.StateChanged(t.Context(), "alice", uuid.New())
	}
	users, devices := slices.Repeat([]string{"alice"}, 10), make([]string, 10)
	for i := range devices {
		devices[i] = fmt.Sprint(i)
	}
	f.endRefused(t.Context(), users, devices)
	require.Equal(t, maxOwed, f.owed.size())
	f.settle(t.Context())
	require.Equal(t, maxOwed, f.owed.size())
	require.NotContains(t, f.owed.states, feed.Key{})
}
