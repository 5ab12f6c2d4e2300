package storage_test

import (
	"context"
	"log/slog"
	"sync"
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

// listener notes in which sessions it is told of entries.
type listener struct {
	mu    sync.Mutex
	heard map[uuid.UUID]bool
}

func (l *listener) Entries(entries []*wire.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.heard[e.SessionID] = true
	}
}

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
	l := &listener{heard: map[uuid.UUID]bool{}}
	h := hints.New(hints.Config{Bus: storage.NewHintBus(client), Sink: l, Epoch: func() string { return epoch },
		InLife: func(_ string, tell func()) bool { tell(); return true }, Clock: clockwork.NewRealClock(), Log: slog.New(slog.DiscardHandler), Urgent: func(bool) {}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; _ = client.Close() })
	return h, l
}

// hinting is two nodes of which the second hears what the first commits in 1,200 sessions, more than one command names.
type hinting struct {
	one, two *hints.Hints
	heard    *listener
	ids      []uuid.UUID
}

func newHinting(t *testing.T, url string) *hinting {
	t.Helper()
	h := &hinting{ids: make([]uuid.UUID, 1200)}
	h.one, _ = startHints(t, url, "e")
	h.two, h.heard = startHints(t, url, "e")
	for i := range h.ids {
		h.ids[i] = uuid.New()
		h.two.WantSession(h.ids[i], true)
	}
	return h
}

func (h *hinting) ready() bool {
	return h.one.Up() && h.two.Up() && h.one.Peers() == 1 && h.two.Peers() == 1
}

// allHeard tells of an entry in each session until all of them were heard from now on: subscribing is not awaited, and how
// long hints are under way is not judged.
func (h *hinting) allHeard(t *testing.T) {
	t.Helper()
	require.Eventually(t, h.ready, patience, 10*time.Millisecond)
	h.heard.mu.Lock()
	clear(h.heard.heard)
	h.heard.mu.Unlock()
	require.Eventually(t, func() bool {
		var out []*wire.Entry
		for _, id := range h.ids {
			out = append(out, wire.Encode(message.Entry{SessionID: id, Seq: 1, MessageID: uuid.New(), SenderID: "a",
				Type: message.TypeText, CreatedAt: time.Unix(1, 0)}))
		}
		h.one.Committed(out)
		h.heard.mu.Lock()
		defer h.heard.mu.Unlock()
		return len(h.heard.heard) == len(h.ids)
	}, patience, 100*time.Millisecond)
}

// Hints over a real Redis, which is killed and comes back empty: what is committed afterwards is heard again.
func TestHintsOverRedis(t *testing.T) {
	t.Parallel()
	server := testenv.OwnRedis(t, nil)
	h := newHinting(t, server.TCPURL())
	h.allHeard(t)
	require.NoError(t, server.Kill())
	require.Eventually(t, func() bool { return !h.one.Up() && !h.two.Up() }, patience, 10*time.Millisecond)
	require.NoError(t, server.Restart(t.Context()))
	h.allHeard(t)
}

// In a Redis Cluster the channels are spread over its masters, and all are heard; with one of them gone hints are down as a
// whole, which the probes tell, until it is back.
func TestHintsOverRedisCluster(t *testing.T) {
	t.Parallel()
	g := testenv.RedisCluster(t)
	h := newHinting(t, g.URL)
	h.allHeard(t)
	for _, p := range g.Servers {
		n, err := testenv.RedisClient(t, p.Addr()).PubSubShardChannels(t.Context(), "hint:*").Result()
		require.NoError(t, err)
		require.NotEmpty(t, n, "one of the masters has no channel: the test tests nothing")
	}
	require.NoError(t, g.Servers[1].Kill())
	require.Eventually(t, func() bool { return !h.one.Up() && !h.two.Up() }, patience, 10*time.Millisecond)
	require.NoError(t, g.Servers[1].Restart(t.Context()))
	h.allHeard(t)
}
