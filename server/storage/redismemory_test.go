package storage_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/wire"
)

// What a session costs in Redis: the figures and the formula of docs/operations.md. Trimming bounds it, whatever is
// appended, and the TTL ends it.
func TestMemoryOfASessionInRedis(t *testing.T) {
	own := testenv.OwnRedis(t, nil)
	client, err := storage.OpenRedis(own.URL())
	require.NoError(t, err)
	client = testenv.Patient(t, client)
	for _, c := range []struct{ length, text, by int }{{1, 100, 1}, {20, 100, 1}, {100, 100, 1}, {500, 100, 1}, {500, 100, 10},
		{500, 100, 50}, {500, 1000, 1}, {2000, 100, 1}} {
		const ttl = time.Hour
		cache := storage.NewOfflineCache(client, func() string { return "7711326623432364135-1" }, c.length, ttl)
		log := &memoryLog{logs: map[uuid.UUID][]message.Entry{}}
		id := uuid.New()
		var entries []*wire.Entry
		for range 2 * c.length { // the older half is trimmed
			e := log.commit(id, &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: strings.Repeat("x", c.text)}}}, message.TypeText)
			e.SenderID, e.SenderDevice = "user-0123456789", "device-01234567"
			entries = append(entries, wire.Encode(e))
		}
		for some := range slices.Chunk(entries, c.by) {
			require.NoError(t, inTime(func() error { return cache.Append(t.Context(), []offline.Batch{{Entries: some}}) }))
		}
		tag := "{" + id.String() + "}:7711326623432364135-1"
		key := "offline:" + tag
		used, err := client.MemoryUsage(t.Context(), key, 0).Result()
		require.NoError(t, err)
		left, err := client.PTTL(t.Context(), key).Result()
		require.NoError(t, err)
		require.Greater(t, left, ttl-time.Minute, "no TTL")
		require.LessOrEqual(t, left, ttl)
		lowest, err := client.ZRangeWithScores(t.Context(), key, 0, 0).Result()
		require.NoError(t, err)
		require.Greater(t, lowest[0].Score, float64(c.length), "not trimmed")
		t.Logf("%4d entries of %4d bytes, appended by %2d: %7d bytes, %5.0f per entry", c.length, c.text, c.by, used,
			float64(used)/float64(c.length))
		// docs/operations.md says: 800 bytes and for each entry 400 and 1.2 times its text; and a chunk may be kept in part.
		require.LessOrEqual(t, used, int64(800+(c.length+c.by-1)*(400+c.text*6/5)), "the documented formula is too low")
	}
}
