package offline_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/wire"
)

// Where one server of several is left alone, only its sessions wait to be forgotten: others are forgotten and used again, what
// is not appended is counted, nothing is left alone as a whole, and what waits makes no rounds.
func TestOneServerOfSeveralIsLeftAlone(t *testing.T) {
	there, gone := uuid.New(), uuid.New()
	w := newWorld(&fakeCache{gone: map[uuid.UUID]bool{gone: true}})
	w.run(t)
	eventually(t, func() bool { return w.cache.pings.Load() == 1 }, "no first probe")
	for n := range 5 {
		for _, id := range []uuid.UUID{there, gone} {
			w.keeper.Committed([]*wire.Entry{wire.Encode(entry(id, 1))})
		}
		eventually(t, func() bool {
			w.clock.Advance(50 * time.Millisecond)
			return w.metric(t, "parley_cache_appends_lost_total") == float64(n+1)
		}, "what was not appended is not counted")
	}
	require.InDelta(t, 1, w.metric(t, "parley_cache_up"), 0)

	w.keeper.Forget(there)
	w.keeper.Forget(gone)
	eventually(t, func() bool {
		w.clock.Advance(50 * time.Millisecond)
		n := w.cache.reads.Load()
		w.read(t, there)
		return w.cache.reads.Load() > n
	}, "never used again, for another server's sake")
	n := w.cache.reads.Load()
	w.read(t, gone)
	require.Equal(t, n, w.cache.reads.Load(), "used although it could not be forgotten")

	w.cache.mu.Lock()
	delete(w.cache.gone, gone)
	w.cache.mu.Unlock()
	eventually(t, func() bool {
		w.clock.Advance(50 * time.Millisecond)
		w.read(t, gone)
		return w.cache.reads.Load() > n
	}, "never used again")
}

// What waits for a server that is left alone does not keep the others' entries from gathering.
func TestWhatCannotBeForgottenDoesNotHurryRounds(t *testing.T) {
	gone := uuid.New()
	w := newWorld(&fakeCache{gone: map[uuid.UUID]bool{gone: true}})
	w.keeper.GatherFor = time.Hour
	w.run(t)
	eventually(t, func() bool { return w.cache.pings.Load() == 1 }, "no first probe")
	w.keeper.Forget(gone)
	eventually(t, func() bool { return w.cache.drops.Load() == 1 }, "not tried at once")
	for range 100 {
		w.keeper.Committed([]*wire.Entry{wire.Encode(entry(uuid.New(), 1))})
	}
	require.Never(t, func() bool { return w.cache.appends.Load() > 0 }, 100*time.Millisecond, time.Millisecond, "each commit makes a round")
	eventually(t, func() bool { w.clock.Advance(500 * time.Millisecond); return w.cache.drops.Load() > 1 }, "not tried again")
}
