package offline_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/wire"
)

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

// What comes while a round is being written gathers for the next one, by session.
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
