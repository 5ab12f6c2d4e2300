package offline_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/ring"
)

var errCache = errors.New("the cache does not answer")

// fakeCache holds nothing; each way of using it can be made to fail or to hang.
type fakeCache struct {
	reads, appends, drops, pings, clears atomic.Int64

	failReads, failAppends, failPings atomic.Bool
	hang                              chan struct{} // appends wait for it, if set
	clearing                          func() error  // what Clear does, if set

	mu      sync.Mutex
	batches []offline.Batch
	gone    map[uuid.UUID]bool // sessions whose server is left alone
	life    atomic.Value       // string
}

func (c *fakeCache) Life() string {
	life, _ := c.life.Load().(string)
	return life
}

func (c *fakeCache) appended() []offline.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.batches)
}

func failing(b *atomic.Bool) error {
	if b.Load() {
		return errCache
	}
	return nil
}

func (c *fakeCache) Read(_ context.Context, ranges []message.Range) ([]offline.Cached, error) {
	defer c.reads.Add(1) // after the outcome is settled: tests change it once they see the count
	return make([]offline.Cached, len(ranges)), failing(&c.failReads)
}

func (c *fakeCache) Append(_ context.Context, batches []offline.Batch) error {
	defer c.appends.Add(1)
	c.mu.Lock()
	c.batches = append(c.batches, batches...)
	c.mu.Unlock()
	if c.hang != nil {
		<-c.hang
	}
	if err := failing(&c.failAppends); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var failed []int
	for i, b := range batches {
		if c.gone[b.Entries[0].SessionID] {
			failed = append(failed, i)
		}
	}
	return partly(failed)
}

func (c *fakeCache) Parts() breaker.Parts { return nil }

func (c *fakeCache) Drop(_ context.Context, ids []uuid.UUID) error {
	defer c.drops.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	var failed []int
	for i, id := range ids {
		if c.gone[id] {
			failed = append(failed, i)
		}
	}
	return partly(failed)
}

// partly is what a cache says of which a server is left alone.
func partly(failed []int) error {
	if len(failed) == 0 {
		return nil
	}
	return &breaker.PartError{Failed: failed}
}

func (c *fakeCache) Clear(context.Context) error {
	defer c.clears.Add(1)
	if c.clearing != nil {
		return c.clearing()
	}
	return nil
}

func (c *fakeCache) Ping(context.Context) error {
	defer c.pings.Add(1)
	return failing(&c.failPings)
}

// source is PostgreSQL, and counts how many read from it at the same time.
type source struct {
	now, most atomic.Int64
	hold      chan struct{} // readings wait for it, if set
}

func (s *source) ListRanges(_ context.Context, ranges []message.Range) ([][]message.Entry, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	if s.hold != nil {
		<-s.hold
	}
	out := make([][]message.Entry, len(ranges))
	for i, r := range ranges {
		for seq := r.From + 1; seq <= r.To; seq++ {
			out[i] = append(out[i], entry(r.SessionID, seq))
		}
	}
	return out, nil
}

func entry(id uuid.UUID, seq int64) message.Entry {
	return message.Entry{SessionID: id, Seq: seq, MessageID: uuid.New(), SenderID: "alice", Type: message.TypeText}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), what)
}

type world struct {
	cache  *fakeCache
	pg     *source
	clock  *clockwork.FakeClock
	log    *lines
	reg    *prometheus.Registry
	keeper *offline.Keeper
	reader *offline.Reader
}

func newWorld(cache *fakeCache) *world {
	w := &world{cache: cache, pg: &source{}, clock: clockwork.NewFakeClock(), log: &lines{}, reg: prometheus.NewRegistry()}
	var c offline.Cache
	if cache != nil {
		c = cache
	}
	w.keeper = offline.NewKeeper(c, w.clock, slog.New(slog.NewTextHandler(w.log, nil)), w.reg)
	w.reader = offline.NewReader(ring.New(0, nil), w.keeper, w.pg, w.reg)
	return w
}

// run runs the keeper until the test ends.
func (w *world) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.keeper.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
}

func (w *world) read(t *testing.T, id uuid.UUID) {
	t.Helper()
	got, err := w.reader.Read(t.Context(), []message.Range{{SessionID: id, From: 0, To: 3}})
	require.NoError(t, err)
	require.Len(t, got[0], 3)
}

func (w *world) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := w.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func eventually(t *testing.T, ok func() bool, what string) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, time.Millisecond, what)
}
