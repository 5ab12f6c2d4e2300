package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// churnVariable names the environment variable with how long the long form of the churn lasts, before PARLEY_SOAK_SCALE.
const churnVariable = "PARLEY_SOAK_CHURN"

func soakChurn(t *testing.T) time.Duration {
	text := os.Getenv(churnVariable)
	if text == "" {
		return 30 * time.Minute
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, churnVariable)
	return d
}

// kept is what a fleet holds of things that must come back: those of the processes, and connections as the servers count them.
// heap is what garbage collections left (rig.Heap), memory is the processes' resident memory; both in bytes.
type kept struct{ goroutines, heap, memory, descriptors, postgres, redis float64 }

// churned is nodes, their own PostgreSQL and Redis, and devices that come and go on them.
type churned struct {
	nodes   []*rig.Server
	sql     *pgx.Conn
	redis   redis.UniversalClient
	devices []*rig.Device
	groups  []string
	sites   map[string]float64 // what the heaps held when holds looked last, by where it was allocated
}

func newChurned(t *testing.T, devices int) *churned {
	const group = 10
	pg, red := testenv.OwnPostgres(t, nil), testenv.OwnRedis(t, nil)
	w := &churned{}
	key := "PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem")
	for range 3 {
		// Little is kept of what was committed, so that memory comes to rest soon.
		w.nodes = append(w.nodes, rig.StartOn(t, with(t, pg.TCPURL(), "pool_max_conn_idle_time"), key,
			"PARLEY_REDIS_URL="+with(t, red.TCPURL(), "conn_max_idle_time"), "PARLEY_RING_BYTES=1000000"))
	}
	waitPeers(t, w.nodes)
	var err error
	w.sql, err = pgx.Connect(t.Context(), pg.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.sql.Close(t.Context()) })
	o, err := redis.ParseURL(red.TCPURL())
	require.NoError(t, err)
	o.PoolSize = 1
	w.redis = testenv.Patient(t, redis.NewClient(o))
	for g := range devices / group {
		var names []string
		for n := range group {
			opts := []connect.ClientOption{}
			if n%2 == 0 {
				opts = append(opts, rig.H2)
			}
			names = append(names, fmt.Sprintf("u%03d-%d", g, n))
			w.devices = append(w.devices, w.nodes[n%3].NewDevice(names[n], "d", opts...))
		}
		w.groups = append(w.groups, w.devices[g*group].Group(t.Context(), names...))
	}
	return w
}

// with is a URL with a setting of one second.
func with(t *testing.T, raw, setting string) string {
	u, err := url.Parse(raw)
	require.NoError(t, err)
	q := u.Query()
	q.Set(setting, "1s")
	u.RawQuery = q.Encode()
	return u.String()
}

// round brings all devices online, lets each send, mark and ack, cuts a third of them, and ends with all offline.
func (w *churned) round(t *testing.T) {
	var all sync.WaitGroup
	room := make(chan struct{}, 40)
	for n, d := range w.devices {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			d.Connect()
			group := w.groups[n/10]
			sent := answer(t, d.Messages.SendMessage, rig.To(group, "churn"))
			d.Sent(group, sent.GetSeq())
			answer(t, d.States.MarkRead, &parleyv1.MarkReadRequest{SessionId: group, UpToSeq: sent.GetSeq()})
			answer(t, d.Sync.Ack, &parleyv1.AckRequest{Acks: []*parleyv1.Cursor{{SessionId: group, Seq: sent.GetSeq()}}})
			if n%3 == 0 {
				d.Offline() // however far it had got
				d.Connect()
			}
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond) //nolint:gosec // a test
			d.Offline()
		})
	}
	all.Wait()
	for _, d := range w.devices {
		d.HTTP.CloseIdleConnections()
	}
}

// answer calls until the call is answered, as an SDK does: a node on a machine that is busy with anything may have to wait too long
// for a connection to PostgreSQL, of which it keeps none here, and says so. Anything else than UNAVAILABLE fails the test.
func answer[Q, A any](t *testing.T, call func(context.Context, *Q) (*A, error), req *Q) *A {
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		res, err := call(t.Context(), req)
		if err == nil {
			return res
		}
		if connect.CodeOf(err) != connect.CodeUnavailable || time.Now().After(end) {
			t.Errorf("%T: %v", req, err)
			return new(A)
		}
	}
}

// rest waits until no stream is left, and then until what is held stopped becoming less, and returns that.
func (w *churned) rest(t *testing.T) kept {
	w.quiet(t)
	least, since := w.holds(t), time.Now()
	for time.Since(since) < restSettled {
		time.Sleep(200 * time.Millisecond)
		now := w.holds(t)
		if lower := least.lower(now); lower != least {
			least, since = lower, time.Now()
		}
	}
	return least
}

// restSettled is how long nothing may have become less for a fleet to be at rest: longer than the pools keep a connection
// that nobody uses.
const restSettled = 8 * time.Second

func (w *churned) quiet(t *testing.T) {
	require.Eventually(t, func() bool { return total(w.nodes, "parley_streams") == 0 }, patience, 20*time.Millisecond)
}

// lower is k with what is less in l. The heap and the memory take part only as far as 1 MiB shows: they move all the time.
func (k kept) lower(l kept) kept {
	mib := func(a, b float64) float64 {
		if b < a-(1<<20) {
			return b
		}
		return a
	}
	return kept{min(k.goroutines, l.goroutines), mib(k.heap, l.heap), mib(k.memory, l.memory), min(k.descriptors, l.descriptors),
		min(k.postgres, l.postgres), min(k.redis, l.redis)}
}

func (w *churned) holds(t *testing.T) (k kept) {
	k.goroutines, k.descriptors = total(w.nodes, "go_goroutines"), total(w.nodes, "process_open_fds")
	w.sites = make(map[string]float64)
	for _, n := range w.nodes {
		h := n.Heap()
		k.heap += h.Live
		for site, bytes := range h.Sites {
			w.sites[site] += bytes
		}
	}
	k.memory = total(w.nodes, "process_resident_memory_bytes")
	require.NoError(t, w.sql.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
		AND pid <> pg_backend_pid()`).Scan(&k.postgres))
	clients, err := w.redis.ClientList(t.Context()).Result()
	require.NoError(t, err)
	k.redis = float64(strings.Count(clients, "\n"))
	return k
}

// over tells what is more than before. The spare is for what is a handful by nature: a connection that a node needs just
// now, with its goroutines and descriptor on each side. It does not grow with the rounds.
func (k kept) over(before kept) (what []string) {
	for _, c := range []struct {
		what           string
		was, is, spare float64
	}{
		{"goroutines", before.goroutines, k.goroutines, 12},
		{"descriptors", before.descriptors, k.descriptors, 12},
		{"connections to PostgreSQL", before.postgres, k.postgres, 6},
		{"connections to Redis", before.redis, k.redis, 6},
		{"live heap", before.heap, k.heap, 3 << 20},
		// What the kernel counts follows the heap's peaks, which come with the first rounds; a short run is still among them.
		{"memory", before.memory, k.memory, size(96, 96, 12.0) * (1 << 20)},
	} {
		if c.is > c.was*1.02+c.spare {
			what = append(what, fmt.Sprintf("%s: %.0f, and %.0f before", c.what, c.is, c.was))
		}
	}
	return what
}

// A16: after devices have come and gone for long, the nodes hold no more than before: goroutines, memory, descriptors, and
// connections to PostgreSQL and Redis. What is compared is the state after a first part, in which caches fill. The pools are
// told to give connections back soon, so that what a burst opened is gone before it is looked at. Nor do the nodes log
// anything of it as a failure.
func TestChurnLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	devices, during := size(20, 60, 300), size(2*time.Second, 12*time.Second, scaled(soakChurn(t)))
	rounds := 0
	var before, after kept
	report(t, "A16", fmt.Sprintf("%d devices come and go on three nodes for %s", devices, during),
		"goroutines, RSS, descriptors, database and Redis connections back within 2 %", func() string {
			return fmt.Sprintf("%d rounds; goroutines %.0f -> %.0f, live heap %.1f -> %.1f MiB, RSS %.1f -> %.1f MiB, descriptors %.0f -> %.0f, PostgreSQL connections %.0f -> %.0f, Redis %.0f -> %.0f",
				rounds, before.goroutines, after.goroutines, before.heap/(1<<20), after.heap/(1<<20), before.memory/(1<<20), after.memory/(1<<20), before.descriptors, after.descriptors,
				before.postgres, after.postgres, before.redis, after.redis)
		})
	w := newChurned(t, devices)
	churn := func(d time.Duration, least int) {
		least += rounds
		for end := time.Now().Add(d); (rounds < least || time.Now().Before(end)) && !t.Failed(); rounds++ {
			w.round(t)
		}
	}
	// What fills does so with the rounds, however long a busy machine takes for them.
	churn(max(during/4, min(during, 10*time.Second)), size(1, 1, 100))
	before = w.rest(t)
	sites := w.sites
	churn(during, 1)
	w.quiet(t)
	// Things that end on their own take a moment to go, longer on a busy machine; what leaked stays however long one waits.
	after = w.holds(t)
	for end := time.Now().Add(patience); after.over(before) != nil && time.Now().Before(end); after = after.lower(w.holds(t)) {
		time.Sleep(200 * time.Millisecond)
	}
	if soaking() || after.over(before) != nil {
		t.Logf("the heaps of the three nodes hold more than before, by where it was allocated:\n%s", strings.Join(rig.Grown(sites, w.sites, 25), "\n"))
	}
	require.Empty(t, after.over(before))
	for _, d := range w.devices {
		d.Connect()
	}
	for n, d := range w.devices {
		d.WaitSeq(w.groups[n/10], int64(1+rounds*10))
	}
	requireNoProblems(t, w.devices...)
	for _, n := range w.nodes {
		n.Stop()
		require.NotContains(t, n.Log(), `"level":"ERROR"`)
	}
}
