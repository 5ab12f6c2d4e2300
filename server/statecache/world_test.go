package statecache_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
	"github.com/parley-im/parley/server/storage"
)

// head is the last seq of every session here.
const head = 1000

// world is a database with users who are in sessions, all of them in all.
type world struct {
	pool     *pgxpool.Pool
	truth    storage.States
	epoch    string
	users    []string
	sessions []uuid.UUID
}

func newWorld(t testing.TB, epoch string, users, sessions int) *world {
	pool := testenv.Postgres(t)
	w := &world{pool: pool, truth: storage.States{DB: storage.New(pool)}, epoch: epoch}
	for i := range users {
		w.users = append(w.users, fmt.Sprintf("user-%03d", i))
	}
	for range sessions {
		w.sessions = append(w.sessions, uuid.New())
	}
	w.exec(t, `INSERT INTO app_user (user_id, created_at) SELECT unnest($1::text[]), now()`, append([]string{"ann"}, w.users...))
	w.exec(t, `INSERT INTO session (session_id, kind, owner_id, last_seq, countable_total, created_at)
		SELECT unnest($1::uuid[]), 2, 'ann', $2, $2, now()`, w.sessions, head)
	w.exec(t, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT u, s, 1, 1, 1 FROM unnest($1::text[]) u, unnest($2::uuid[]) s`, w.users, w.sessions)
	return w
}

func (w *world) exec(t testing.TB, sql string, args ...any) {
	_, err := w.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// texts gives a session its entries, which only marks of single messages look at.
func (w *world) texts(t testing.TB, id uuid.UUID) {
	w.exec(t, `INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
		SELECT $1, n, gen_random_uuid(), 'ann', 'd', 1, '', 1, n, now() FROM generate_series(1, $2::bigint) n`, id, head)
}

// node is what a server has of states: the cache, the service over it, and a feed that a test may run.
type node struct {
	world  *world
	client redis.UniversalClient
	cache  *storage.StateCache
	store  *statecache.Store
	states *state.Service
	reg    *prometheus.Registry
	reads  *counting
	polled atomic.Int64 // when the last poll of the feed began whose findings were all told, in nanoseconds
}

type options struct {
	hasty bool // gives Redis up as a node does; else waits for it as long as a busy machine needs
	clock clockwork.Clock
	lease time.Duration
	ttl   time.Duration
	feed  bool
	reads *counting
}

// node starts a node that speaks to Redis at an address.
func (w *world) node(t testing.TB, url string, o options) *node {
	client, err := storage.OpenRedis(url)
	require.NoError(t, err)
	if !o.hasty {
		client = testenv.Patient(t, client)
	}
	if o.clock == nil {
		o.clock = clockwork.NewRealClock()
	}
	if o.lease == 0 {
		o.lease = statecache.DefaultLease
	}
	if o.ttl == 0 {
		o.ttl = time.Hour
	}
	if o.reads == nil {
		o.reads = &counting{Store: w.truth}
	}
	n := &node{world: w, client: client, reg: prometheus.NewRegistry(), reads: o.reads}
	n.cache = storage.NewStateCache(client, func() string { return w.epoch }, o.lease, o.ttl)
	b := breaker.New(func(ctx context.Context) error { return client.Set(ctx, w.epoch+":probe", 1, time.Minute).Err() },
		clockwork.NewRealClock(), slog.New(slog.DiscardHandler), nil)
	if cluster, ok := client.(*storage.Cluster); ok {
		b.Spread(cluster)
	}
	n.store = statecache.New(o.reads, n.cache, b, statecache.Config{Lease: o.lease, TTL: o.ttl}, o.clock, n.reg)
	n.states = state.NewService(n.store, silent{})
	ctx, cancel := context.WithCancel(context.Background())
	runs := []func(context.Context){b.Run, n.store.Run}
	if o.feed {
		f := feed.New(storage.Feed{DB: w.truth.DB}, mover{n.store, &n.polled}, clockwork.NewRealClock(), slog.New(slog.DiscardHandler), nil)
		_, err := f.Start(ctx)
		require.NoError(t, err)
		runs = append(runs, f.Run)
	}
	done := make(chan struct{}, len(runs))
	for _, run := range runs {
		go func() { run(ctx); done <- struct{}{} }()
	}
	t.Cleanup(func() {
		n.states.Close()
		cancel()
		for range runs {
			<-done
		}
		_ = client.Close()
	})
	return n
}

// mark moves a user's watermark.
func (n *node) mark(ctx context.Context, user string, id uuid.UUID, seq int64) error {
	_, err := n.states.MarkReadTo(ctx, session.Actor{UserID: user, DeviceID: "d"}, id, seq)
	return err
}

// read reads a user's states in sessions through the cache, by session.
func (n *node) read(t testing.TB, user string, ids ...uuid.UUID) map[uuid.UUID]state.Kept {
	kept, err := n.store.Kept(t.Context(), user, whole(ids))
	require.NoError(t, err)
	return byID(kept)
}

func whole(ids []uuid.UUID) []message.Range {
	out := make([]message.Range, len(ids))
	for i, id := range ids {
		out[i] = message.Range{SessionID: id, To: head}
	}
	return out
}

func byID(kept []state.Kept) map[uuid.UUID]state.Kept {
	out := make(map[uuid.UUID]state.Kept, len(kept))
	for _, k := range kept {
		out[k.SessionID] = k
	}
	return out
}

// outcomes is what a counter of the cache counted, by outcome.
func (n *node) outcomes(t testing.TB, what string) map[string]int {
	families, err := n.reg.Gather()
	require.NoError(t, err)
	out := make(map[string]int)
	for _, f := range families {
		if f.GetName() == "parley_state_cache_"+what+"_total" {
			for _, m := range f.GetMetric() {
				out[m.GetLabel()[0].GetValue()] = int(m.GetCounter().GetValue())
			}
		}
	}
	return out
}

// differing counts the keys whose cached state is another than PostgreSQL's, and those that were cached at all.
func (n *node) differing(t testing.TB) (differing, cached int) {
	hits := n.outcomes(t, "reads")["hit"]
	for _, user := range n.world.users {
		truth, err := n.world.truth.Kept(t.Context(), user, whole(n.world.sessions))
		require.NoError(t, err)
		got := n.read(t, user, n.world.sessions...)
		for _, want := range truth {
			k := got[want.SessionID]
			if k.ReadSeq != want.ReadSeq || k.DeletedToSeq != want.DeletedToSeq || len(k.Exceptions) != len(want.Exceptions) {
				differing++
			}
		}
	}
	return differing, n.outcomes(t, "reads")["hit"] - hits
}

// counting counts readings from PostgreSQL. gate, where there is one, holds each back until it can be read from.
type counting struct {
	state.Store
	n    atomic.Int64
	gate chan struct{}
}

func (c *counting) Kept(ctx context.Context, user string, ranges []message.Range) ([]state.Kept, error) {
	c.n.Add(1)
	if c.gate != nil {
		<-c.gate
	}
	return c.Store.Kept(ctx, user, ranges)
}

// silent is a state.Notifier for nobody.
type silent struct{}

func (silent) NotifyUser(string, string, *parleyv1.Event) {}
func (silent) Read(string, uuid.UUID, int64)              {}
func (silent) Handled(int64)                              {}

// mover is what a node's feed tells the cache.
type mover struct {
	store  *statecache.Store
	polled *atomic.Int64
}

func (mover) StreamStarted(string, string, string, int64)       {}
func (mover) Advanced(string, uuid.UUID, int64)                 {}
func (mover) Recalled(uuid.UUID)                                {}
func (mover) StateChanged(context.Context, string, uuid.UUID)   {}
func (mover) RelationsChanged(context.Context, []feed.Relation) {}
func (m mover) Polled(_ context.Context, began time.Time)       { m.polled.Store(began.UnixNano()) }
func (m mover) Lost()                                           { m.store.Distrust() }
func (mover) EpochChanged(string)                               {}
func (m mover) Moved(ctx context.Context, keys []feed.Key) {
	moved := make([]state.Key, len(keys))
	for i, k := range keys {
		moved[i] = state.Key(k)
	}
	m.store.Forget(ctx, moved)
}
