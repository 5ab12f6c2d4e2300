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

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/wire"
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
	life    atomic.Value // string
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
	return failing(&c.failAppends)
}

func (c *fakeCache) Drop(context.Context, []uuid.UUID) error { c.drops.Add(1); return nil }

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
	require.Eventually(t, ok, 10*time.Second, time.Millisecond, what)
}

// However slow Redis is: three readings wait for it (each as long as the cache's own timeout), none after that, until it
// answers a probe. The gauge and one log line say so each time.
func TestCacheThatFailsIsLeftAlone(t *testing.T) {
	w := newWorld(&fakeCache{})
	w.run(t)
	eventually(t, func() bool { return w.log.count("redis answers; it serves") == 1 }, "the start is not logged")
	w.cache.failReads.Store(true)
	w.cache.failPings.Store(true)
	for range 100 {
		w.read(t, uuid.New())
	}
	require.EqualValues(t, 3, w.cache.reads.Load())
	require.Zero(t, w.metric(t, "parley_cache_up"))
	require.Equal(t, 1, w.log.count("redis is left alone"))

	probe := func() {
		n := w.cache.pings.Load()
		eventually(t, func() bool { w.clock.Advance(500 * time.Millisecond); return w.cache.pings.Load() > n }, "no probe")
	}
	probe()
	require.Zero(t, w.metric(t, "parley_cache_up"), "a failed probe counted as an answer")
	w.cache.failReads.Store(false)
	w.cache.failPings.Store(false)
	probe()
	eventually(t, func() bool { return w.metric(t, "parley_cache_up") == 1 }, "redis is not used again")
	eventually(t, func() bool { return w.log.count("redis answers again") == 1 }, "not logged")
	w.read(t, uuid.New())
	require.EqualValues(t, 4, w.cache.reads.Load())
	require.InDelta(t, 1, w.metric(t, "parley_cache_left_total"), 0)
	require.Equal(t, 3, w.log.count("\n"), "one line for each change")
}

// A Redis that answers probes and fails at once again, as one does that is nearly full, is probed less often.
func TestCacheThatFailsAgainIsProbedLater(t *testing.T) {
	w := newWorld(&fakeCache{})
	w.keeper.GatherFor = 0 // it would set a timer too, to be taken for the probe's
	w.run(t)
	eventually(t, func() bool { return w.cache.pings.Load() == 1 }, "no first probe")
	fail := func() {
		w.cache.failReads.Store(true)
		for range 3 {
			w.read(t, uuid.New())
		}
		require.Zero(t, w.metric(t, "parley_cache_up"))
		w.cache.failReads.Store(false)
	}
	fail()
	for range 2 {
		eventually(t, func() bool { w.clock.Advance(100 * time.Millisecond); return w.metric(t, "parley_cache_up") == 1 }, "no probe")
		fail()
	}
	timers := func() { require.NoError(t, w.clock.BlockUntilContext(t.Context(), 2)) } // the next probe and the keeper's ticker
	n := w.cache.pings.Load()
	timers()
	w.clock.Advance(1900 * time.Millisecond)
	timers()
	w.clock.Advance(4100 * time.Millisecond)
	eventually(t, func() bool { return w.metric(t, "parley_cache_up") == 1 }, "no probe after 6 s")
	require.Equal(t, n+1, w.cache.pings.Load())
}

// A Redis that only reads, or is full, is left too, though its reads go on succeeding in between.
func TestCacheThatOnlyReadsIsLeftAlone(t *testing.T) {
	w := newWorld(&fakeCache{})
	w.cache.failAppends.Store(true)
	w.run(t)
	eventually(t, func() bool { return w.cache.pings.Load() == 1 }, "no first probe")
	w.cache.failPings.Store(true)
	for n := range 3 {
		w.keeper.Committed([]*wire.Entry{wire.Encode(entry(uuid.New(), 1))})
		eventually(t, func() bool {
			w.clock.Advance(50 * time.Millisecond)
			return w.cache.appends.Load() == int64(n+1)
		}, "no append")
		w.read(t, uuid.New())
	}
	eventually(t, func() bool { return w.metric(t, "parley_cache_up") == 0 }, "it is used further")
}

// Redis away at the start: one line, and no reading waits for it.
func TestCacheAwayAtTheStart(t *testing.T) {
	w := newWorld(&fakeCache{})
	w.cache.failPings.Store(true)
	w.run(t)
	eventually(t, func() bool { return w.metric(t, "parley_cache_up") == 0 }, "it counts as there")
	require.Equal(t, 1, w.log.count("redis is left alone"))
	w.read(t, uuid.New())
	require.Zero(t, w.cache.reads.Load())

	none := newWorld(nil)
	none.run(t)
	eventually(t, func() bool { return none.log.count("no redis is set") == 1 }, "not logged")
	require.Zero(t, none.metric(t, "parley_cache_up"))
	none.read(t, uuid.New())
}

// While Redis hangs, handing on what was committed waits for nothing, and what piles up has a bound.
func TestHangingCacheDelaysNoSend(t *testing.T) {
	cache := &fakeCache{hang: make(chan struct{})}
	w := newWorld(cache)
	w.run(t)
	t.Cleanup(func() { close(cache.hang) })
	for range 20_000 { // would hang here
		w.keeper.Committed([]*wire.Entry{wire.Encode(entry(uuid.New(), 1))})
	}
	lost := w.metric(t, "parley_cache_appends_lost_total")
	require.GreaterOrEqual(t, lost, float64(20_000-8192-256))
	require.LessOrEqual(t, lost, float64(20_000-8192))

	big := entry(uuid.New(), 1)
	big.Body = bytes.Repeat([]byte{0}, 1<<20)
	few := newWorld(&fakeCache{}) // not running: nothing is taken
	for range 40 {
		few.keeper.Committed([]*wire.Entry{wire.Encode(big)})
	}
	require.GreaterOrEqual(t, few.metric(t, "parley_cache_appends_lost_total"), 8.0, "more than 32 MiB wait")
}

// Devices that all come back while Redis is away leave most of PostgreSQL's connections to sends.
func TestReadingsFromPostgresAreBounded(t *testing.T) {
	w := newWorld(nil)
	w.pg.hold = make(chan struct{})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			got, err := w.reader.Read(context.Background(), []message.Range{{SessionID: uuid.New(), From: 0, To: 3}})
			if err != nil || len(got[0]) != 3 {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	eventually(t, func() bool { return w.pg.now.Load() == 8 }, "not even the bound is used")
	close(w.pg.hold)
	wg.Wait()
	require.EqualValues(t, 8, w.pg.most.Load())
}

// A session in which something was recalled is not read from Redis while an append that failed may still take effect.
func TestForgottenUntilNoAppendCanComeLate(t *testing.T) {
	w := newWorld(&fakeCache{})
	w.cache.failAppends.Store(true)
	w.run(t)
	id := uuid.New()
	w.keeper.Committed([]*wire.Entry{wire.Encode(entry(id, 1))})
	eventually(t, func() bool { return w.cache.appends.Load() == 1 }, "no append")
	w.cache.failAppends.Store(false)
	w.keeper.Forget(id)
	eventually(t, func() bool { return w.cache.drops.Load() == 1 }, "not forgotten at once")
	w.read(t, id)
	require.Zero(t, w.cache.reads.Load(), "read although the append may come late")
	w.read(t, uuid.New())
	require.EqualValues(t, 1, w.cache.reads.Load(), "other sessions have nothing to do with it")

	w.clock.Advance(offline.AppendLateness + time.Millisecond)
	eventually(t, func() bool { return w.cache.drops.Load() >= 2 }, "not forgotten again")
	eventually(t, func() bool { w.read(t, id); return w.cache.reads.Load() > 1 }, "never used again")
}

// However much is recalled while the cache is away, what the node keeps in mind is bounded: past the bound the whole cache is
// cleared, and not used before that has succeeded. What is recalled while it is being cleared is forgotten besides.
func TestTooManyRecallsClearTheCache(t *testing.T) {
	w := newWorld(&fakeCache{})
	during, fail := uuid.New(), true
	w.cache.clearing = func() error {
		if fail {
			fail = false
			return errCache
		}
		w.keeper.Forget(during)
		return nil
	}
	for range offline.MaxForget {
		w.keeper.Forget(uuid.New())
	}
	w.read(t, uuid.New())
	require.EqualValues(t, 1, w.cache.reads.Load(), "other sessions have nothing to do with it up to the bound")
	w.keeper.Forget(uuid.New())
	for range 10 {
		w.keeper.Forget(uuid.New())
		w.read(t, uuid.New())
	}
	require.EqualValues(t, 1, w.cache.reads.Load(), "read although it is not known what was recalled")

	w.run(t)
	eventually(t, func() bool { return w.cache.clears.Load() == 1 }, "not cleared")
	w.read(t, uuid.New())
	require.EqualValues(t, 1, w.cache.reads.Load(), "clearing has failed")
	eventually(t, func() bool { w.clock.Advance(time.Second); return w.cache.clears.Load() == 2 }, "not tried again")
	eventually(t, func() bool { w.read(t, uuid.New()); return w.cache.reads.Load() > 1 }, "never used again")
	eventually(t, func() bool { w.clock.Advance(time.Second); return w.cache.drops.Load() == 1 }, "recalled meanwhile, and not forgotten")
	require.EqualValues(t, 2, w.cache.clears.Load())
}

// Entries of a session that come one by one are appended together, in their order, and a gap is not papered over.
func TestEntriesGatherBySession(t *testing.T) {
	cache := &fakeCache{}
	w := newWorld(cache)
	w.run(t)
	eventually(t, func() bool { return cache.pings.Load() == 1 }, "no first probe")
	first := uuid.New()
	w.keeper.Committed([]*wire.Entry{wire.Encode(entry(first, 1))}) // nothing was written lately: at once
	eventually(t, func() bool { return cache.appends.Load() == 1 }, "no append")

	a, b := uuid.New(), uuid.New()
	for seq := int64(1); seq <= 300; seq++ {
		w.keeper.Committed([]*wire.Entry{wire.Encode(entry(a, seq)), wire.Encode(entry(b, seq))})
	}
	w.keeper.Committed([]*wire.Entry{wire.Encode(entry(a, 400))})
	require.EqualValues(t, 1, cache.appends.Load(), "they gather")
	eventually(t, func() bool {
		w.clock.Advance(50 * time.Millisecond)
		return cache.appends.Load() == 2
	}, "no second append")
	got := map[uuid.UUID][]int64{}
	for _, batch := range cache.appended()[1:] {
		for i, e := range batch.Entries {
			require.Equal(t, batch.Entries[0].SessionID, e.SessionID)
			require.Equal(t, batch.Entries[0].Seq+int64(i), e.Seq, "a batch has no gap")
			got[e.SessionID] = append(got[e.SessionID], e.Seq)
		}
	}
	require.Len(t, cache.appended(), 1+2*2+1, "two of each session, of at most 256, and the one after the gap")
	require.Len(t, got[a], 301)
	require.Len(t, got[b], 300)
}

// What waits behind a round's first part when its session is forgotten is not appended after the forgetting.
func TestNothingOfAForgottenSessionStillWaits(t *testing.T) {
	cache := &fakeCache{hang: make(chan struct{})}
	w := newWorld(cache)
	w.run(t)
	entries := make([]*wire.Entry, 700) // three parts
	for i := range entries {
		entries[i] = wire.Encode(entry(uuid.New(), 1))
	}
	last := entries[len(entries)-1].SessionID
	w.keeper.Committed(entries)
	eventually(t, func() bool { return len(cache.appended()) > 0 }, "no append")
	w.keeper.Forget(last)
	close(cache.hang)
	eventually(t, func() bool { return cache.drops.Load() >= 1 && cache.appends.Load() == 3 }, "the round did not end")
	for _, b := range cache.appended() {
		require.NotEqual(t, last, b.Entries[0].SessionID, "appended after it was forgotten")
	}
	require.Len(t, cache.appended(), len(entries)-1)
}

// What comes while a round is being written gathers for the next one, by session.
// What gathered before the log went over to another life must not be taken for entries of that one, which have the same seqs.
func TestEntriesOfAFormerLifeStayWithIt(t *testing.T) {
	cache := &fakeCache{}
	cache.life.Store("former")
	w := newWorld(cache)
	w.run(t)
	eventually(t, func() bool { return cache.pings.Load() == 1 }, "no first probe")
	id := uuid.New()
	w.keeper.Committed([]*wire.Entry{wire.Encode(entry(id, 1))})
	eventually(t, func() bool { return cache.appends.Load() == 1 }, "no append")
	w.keeper.Committed([]*wire.Entry{wire.Encode(entry(id, 2))})
	cache.life.Store("present")
	w.keeper.Committed([]*wire.Entry{wire.Encode(entry(id, 3))})
	eventually(t, func() bool {
		w.clock.Advance(50 * time.Millisecond)
		return cache.appends.Load() == 2
	}, "no second append")
	lives := map[int64]string{}
	for _, batch := range cache.appended() {
		require.Len(t, batch.Entries, 1, "entries of two lives are not joined")
		lives[batch.Entries[0].Seq] = batch.Life
	}
	require.Equal(t, map[int64]string{1: "former", 2: "former", 3: "present"}, lives)
}

func TestWhatComesDuringARoundGathers(t *testing.T) {
	cache := &fakeCache{hang: make(chan struct{})}
	w := newWorld(cache)
	w.run(t)
	ids := make([]uuid.UUID, 600)
	commit := func(seq int64) {
		entries := make([]*wire.Entry, len(ids))
		for i, id := range ids {
			entries[i] = wire.Encode(entry(id, seq))
		}
		w.keeper.Committed(entries)
	}
	for i := range ids {
		ids[i] = uuid.New()
	}
	commit(1)
	eventually(t, func() bool { return len(cache.appended()) > 0 }, "no append")
	for seq := int64(2); seq <= 5; seq++ {
		commit(seq)
	}
	close(cache.hang)
	eventually(t, func() bool {
		w.clock.Advance(50 * time.Millisecond)
		return cache.appends.Load() == 6
	}, "no second round")
	got := cache.appended()
	require.Len(t, got, 2*len(ids), "one batch for each session and round")
	require.Len(t, got[len(got)-1].Entries, 4)
}
