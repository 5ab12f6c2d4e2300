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
	t.Cleanup(func() { _ = client.Close() })
	for _, c := range []struct{ length, text int }{{1, 100}, {20, 100}, {100, 100}, {500, 100}, {500, 1000}, {2000, 100}} {
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
		for some := range slices.Chunk(entries, 50) {
			require.Eventually(t, func() bool {
				return cache.Append(t.Context(), []offline.Batch{{Entries: some}}) == nil
			}, 20*time.Second, 10*time.Millisecond)
		}
		tag := "{" + id.String() + "}:7711326623432364135-1"
		used := map[string]int64{}
		for _, key := range []string{"offline:" + tag, "body:" + tag} {
			n, err := client.MemoryUsage(t.Context(), key, 0).Result()
			require.NoError(t, err)
			used[key] = n
			left, err := client.PTTL(t.Context(), key).Result()
			require.NoError(t, err)
			require.Greater(t, left, ttl-time.Minute, "no TTL")
			require.LessOrEqual(t, left, ttl)
		}
		n, err := client.ZCard(t.Context(), "offline:"+tag).Result()
		require.NoError(t, err)
		require.EqualValues(t, c.length, n, "not trimmed")
		n, err = client.HLen(t.Context(), "body:"+tag).Result()
		require.NoError(t, err)
		require.EqualValues(t, c.length+1, n, "bodies without a place in the set, beside the life")
		set, hash := used["offline:"+tag], used["body:"+tag]
		t.Logf("%4d entries of %4d bytes: set %7d + hash %8d = %8d bytes, %5.0f per entry", c.length, c.text, set, hash, set+hash,
			float64(set+hash)/float64(c.length))
		// docs/operations.md says: 600 bytes and for each entry 400 and 1.2 times its text.
		require.LessOrEqual(t, set+hash, int64(600+c.length*(400+c.text*6/5)), "the documented formula is too low")
	}
}
