package offline_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/wire"
)

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
