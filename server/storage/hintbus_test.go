package storage_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/hints"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/wire"
)

// listener counts the entries that it is told.
type listener struct{ entries atomic.Int64 }

func (l *listener) Entries(e []*wire.Entry)            { l.entries.Add(int64(len(e))) }
func (*listener) Advanced(uuid.UUID, int64)            {}
func (*listener) Started(string, string, int64)        {}
func (*listener) Signal(uuid.UUID, *parleyv1.Event)    {}
func (*listener) User(string, string, *parleyv1.Event) {}
func (*listener) Changed()                             {}

func (*listener) PresenceChanged(string)                     {}
func (*listener) Watch(string, string, []*parleyv1.Presence) {}

func startHints(t *testing.T, url, epoch string) (*hints.Hints, *listener) {
	t.Helper()
	client, err := storage.OpenRedis(url)
	require.NoError(t, err)
	l := &listener{}
	h := hints.New(hints.Config{Bus: storage.NewHintBus(client), Sink: l, Epoch: func() string { return epoch },
		Clock: clockwork.NewRealClock(), Log: slog.New(slog.DiscardHandler), Urgent: func(bool) {}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; _ = client.Close() })
	return h, l
}

// Hints over a real Redis, which is killed and comes back empty: what is committed afterwards is heard again.
func TestHintsOverRedis(t *testing.T) {
	t.Parallel()
	server := testenv.OwnRedis(t, nil)
	one, _ := startHints(t, server.TCPURL(), "e")
	two, heard := startHints(t, server.TCPURL(), "e")
	ids := make([]uuid.UUID, 1200) // more than one command names
	for i := range ids {
		ids[i] = uuid.New()
		two.WantSession(ids[i], true)
	}
	tell := func() {
		var out []*wire.Entry
		for _, id := range ids {
			out = append(out, wire.Encode(message.Entry{SessionID: id, Seq: 1, MessageID: uuid.New(), SenderID: "a",
				Type: message.TypeText, CreatedAt: time.Unix(1, 0)}))
		}
		one.Committed(out)
	}
	ready := func() bool { return one.Up() && two.Up() && one.Peers() == 1 && two.Peers() == 1 }
	require.Eventually(t, ready, 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { // subscribing is not awaited
		before := heard.entries.Load()
		tell()
		time.Sleep(100 * time.Millisecond)
		return heard.entries.Load()-before == int64(len(ids))
	}, 20*time.Second, 10*time.Millisecond)

	require.NoError(t, server.Kill())
	require.Eventually(t, func() bool { return !one.Up() && !two.Up() }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, server.Restart(t.Context()))
	require.Eventually(t, ready, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		before := heard.entries.Load()
		tell()
		time.Sleep(100 * time.Millisecond)
		return heard.entries.Load()-before == int64(len(ids))
	}, 20*time.Second, 10*time.Millisecond)
}
