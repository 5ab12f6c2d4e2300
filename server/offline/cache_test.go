package offline_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

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
	// The last probe that failed may still be under way: then it takes another one.
	eventually(t, func() bool { w.clock.Advance(500 * time.Millisecond); return w.metric(t, "parley_cache_up") == 1 }, "redis is not used again")
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
