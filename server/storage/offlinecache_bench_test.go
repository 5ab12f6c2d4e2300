package storage_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/wire"
)

// What an entry costs Redis that is appended behind its commit, by how many a session gets at once. The operation is an
// append of 256 sessions. redis-µs/entry is the processor time of the server, which is this benchmark's alone; sessions are full,
// so that each append also trims.
func BenchmarkOfflineAppend(b *testing.B) {
	const sessions, length = 256, 100
	for _, each := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("each=%d", each), func(b *testing.B) {
			own := testenv.OwnRedis(b, nil)
			client, err := storage.OpenRedis(own.URL())
			require.NoError(b, err)
			b.Cleanup(func() { _ = client.Close() })
			cache := storage.NewOfflineCache(client, func() string { return "7711326623432364135-1" }, length, time.Hour)
			ids := make([]uuid.UUID, sessions)
			for i := range ids {
				ids[i] = uuid.New()
			}
			log := &memoryLog{logs: map[uuid.UUID][]message.Entry{}}
			add := func(n int) {
				batches := make([]offline.Batch, 0, sessions)
				for _, id := range ids {
					entries := make([]*wire.Entry, n)
					for k := range entries {
						e := log.commit(id, words(strings.Repeat("x", 100)), message.TypeText)
						e.SenderID, e.SenderDevice = "user-0123456789", "device-01234567"
						entries[k] = wire.Encode(e)
					}
					batches = append(batches, offline.Batch{Entries: entries})
				}
				require.NoError(b, cache.Append(b.Context(), batches))
			}
			add(length)
			before := redisTime(b, client)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				add(each)
			}
			b.StopTimer()
			b.ReportMetric(float64((redisTime(b, client)-before).Nanoseconds())/1e3/float64(b.N*sessions*each), "redis-µs/entry")
			b.ReportMetric(0, "ns/op") // most of it is the making of entries
		})
	}
}

// redisTime is the processor time that the server has used.
func redisTime(b *testing.B, client redis.UniversalClient) (used time.Duration) {
	info, err := client.Info(b.Context(), "cpu").Result()
	require.NoError(b, err)
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			s, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			used += time.Duration(s * float64(time.Second))
		}
	}
	return used
}
