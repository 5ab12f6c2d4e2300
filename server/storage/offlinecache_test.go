package storage_test

import (
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/wire"
)

// appending is a cache of 3,000 entries a session, and a log to fill it from.
type appending struct {
	client redis.UniversalClient
	cache  *storage.OfflineCache
	log    *memoryLog
}

func newAppending(t *testing.T, url string) *appending {
	client, err := storage.OpenRedis(url)
	require.NoError(t, err)
	client = testenv.Patient(t, client)
	return &appending{client: client, log: &memoryLog{logs: map[uuid.UUID][]message.Entry{}},
		cache: storage.NewOfflineCache(client, func() string { return "e" }, 3000, time.Hour)}
}

// next are the session's next n entries.
func (a *appending) next(id uuid.UUID, n int) (b offline.Batch) {
	for range n {
		b.Entries = append(b.Entries, wire.Encode(a.log.commit(id, words("x"), message.TypeText)))
	}
	return b
}

// add appends what waits.
func (a *appending) add(t *testing.T, batches ...offline.Batch) {
	t.Helper()
	require.NoError(t, inTime(func() error { return a.cache.Append(t.Context(), batches) }))
}

// drop forgets a session.
func (a *appending) drop(t *testing.T, id uuid.UUID) {
	t.Helper()
	require.NoError(t, a.cache.Drop(t.Context(), []uuid.UUID{id}))
}

func (a *appending) requireHeld(t *testing.T, id uuid.UUID, from, to int64) {
	t.Helper()
	got, err := a.cache.Read(t.Context(), []message.Range{{SessionID: id, From: from, To: to}})
	require.NoError(t, err)
	require.Len(t, got[0].Entries, int(to-from))
	for i, e := range got[0].Entries {
		require.Equal(t, a.log.logs[id][from+int64(i)].MessageID, e.MessageID)
	}
}

// Sessions of all sizes are appended together, on a server and on the stand-in, and by one call of several parts.
func TestAppendOfManySessions(t *testing.T) {
	for name, c := range map[string]struct {
		url   string
		sizes []int
	}{
		"server":   {testenv.OwnRedis(t, nil).URL(), []int{1, 2, 999, 1000, 1001, 2600}},
		"stand-in": {"redis://" + miniredis.RunT(t).Addr(), []int{1, 2, 1001}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAppending(t, c.url)
			var batches []offline.Batch
			ids := map[uuid.UUID]int64{}
			for _, n := range c.sizes {
				id := uuid.New()
				ids[id] = int64(n)
				batches = append(batches, a.next(id, n))
			}
			a.add(t, batches...)
			for id, n := range ids {
				a.requireHeld(t, id, 0, n)
				a.add(t, a.next(id, 700))
				first := max(0, n+700-3000)
				a.requireHeld(t, id, first, n+700)
				if first > 0 { // the others were trimmed, but for those in one chunk with what is kept
					gone, err := a.cache.Read(t.Context(), []message.Range{{SessionID: id, From: first - 64, To: first + 1}})
					require.NoError(t, err)
					require.Empty(t, gone[0].Entries)
				}
			}
		})
	}
}

// A session whose key holds something else fails the append, but no other session's.
func TestAppendBesideABrokenSession(t *testing.T) {
	a := newAppending(t, testenv.OwnRedis(t, nil).URL())
	before, broken, after := uuid.New(), uuid.New(), uuid.New()
	require.NoError(t, a.client.Set(t.Context(), "offline:{"+broken.String()+"}:e", "x", 0).Err())
	batches := []offline.Batch{a.next(before, 3), a.next(broken, 3), a.next(after, 3)}
	var err error
	require.NoError(t, inTime(func() error { err = a.cache.Append(t.Context(), batches); return nil }))
	require.ErrorContains(t, err, "WRONGTYPE")
	a.requireHeld(t, before, 0, 3)
	a.requireHeld(t, after, 0, 3)
}

// Whatever was appended and repaired in which pieces, what is there is given whole, and nothing else.
func TestChunksThatOverlap(t *testing.T) {
	a := newAppending(t, testenv.OwnRedis(t, nil).URL())
	rapid.Check(t, func(rt *rapid.T) {
		id := uuid.New()
		all := a.next(id, 150).Entries
		there := make([]bool, len(all))
		read := func(from, to int) offline.Cached {
			got, err := a.cache.Read(t.Context(), []message.Range{{SessionID: id, From: int64(from), To: int64(to)}})
			require.NoError(t, err)
			require.False(t, got[0].Broken)
			return got[0]
		}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			from := rapid.IntRange(0, len(all)-1).Draw(rt, "from")
			to := rapid.IntRange(from+1, len(all)).Draw(rt, "to")
			got := read(from, to)
			if got.Lease == "" {
				require.Len(t, got.Entries, to-from)
				for i, e := range got.Entries {
					require.Equal(t, all[from+i].Encoded(), e.Encoded())
				}
				require.NotContains(t, there[from:to], false)
				continue
			}
			require.Empty(t, got.Entries)
			a.add(t, offline.Batch{Lease: got.Lease, Entries: all[from:to]})
			for i := from; i < to; i++ {
				there[i] = true
			}
			require.Len(t, read(from, to).Entries, to-from, "a repair was not enough")
		}
		a.drop(t, id)
	})
}

// A session is as long as it may be, also after a repair of what is older; and entries of any size are appended.
func TestChunksAreTrimmedAndBounded(t *testing.T) {
	a := newAppending(t, testenv.OwnRedis(t, nil).URL())
	id := uuid.New()
	old, big := a.next(id, 500), offline.Batch{}
	for range 40 {
		big.Entries = append(big.Entries, wire.Encode(a.log.commit(id, words(strings.Repeat("x", 10_000)), message.TypeText)))
	}
	a.add(t, big)
	a.requireHeld(t, id, 500, 540)
	key := "offline:{" + id.String() + "}:e"
	members, err := a.client.ZRange(t.Context(), key, 0, -1).Result()
	require.NoError(t, err)
	for _, m := range members {
		require.Less(t, len(m), 34_000)
	}
	a.add(t, a.next(id, 2900))
	got, err := a.cache.Read(t.Context(), []message.Range{{SessionID: id, From: 0, To: 500}})
	require.NoError(t, err)
	require.NotEmpty(t, got[0].Lease)
	old.Lease = got[0].Lease
	a.add(t, old)
	a.requireHeld(t, id, 500, 3440)
	got, err = a.cache.Read(t.Context(), []message.Range{{SessionID: id, From: 300, To: 500}})
	require.NoError(t, err)
	require.Empty(t, got[0].Entries, "what is older than the length allows was kept")
}
