package storage_test

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/storage"
)

// BenchmarkAppend is one transaction of n messages over 1,000 sessions, fsync on.
func BenchmarkAppend(b *testing.B) {
	pool, err := storage.OpenPool(b.Context(), testenv.PostgresURL(b), 16)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	s := storage.NewMessages(storage.New(pool))
	addUsers(b, pool, "alice")
	ids := make([]uuid.UUID, 1000)
	for i := range ids {
		ids[i] = addGroup(b, pool, "alice")
	}
	for _, n := range []int{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			k := 0
			for b.Loop() {
				drafts := make([]message.Draft, n)
				for i := range drafts {
					k++
					drafts[i] = draftOf(ids[k%len(ids)], "alice", "a text of some length, as people write them in a chat, one hundred bytes or about that many, see?")
				}
				if _, err := s.Append(b.Context(), drafts, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkCommitter is senders that each wait for their answer, over 1,000 sessions, fsync on.
func BenchmarkCommitter(b *testing.B) {
	pool, err := storage.OpenPool(b.Context(), testenv.PostgresURL(b), 16)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	s := storage.NewMessages(storage.New(pool))
	addUsers(b, pool, "alice")
	ids := make([]uuid.UUID, 1000)
	for i := range ids {
		ids[i] = addGroup(b, pool, "alice")
	}
	for _, workers := range []int{1, 2, 4, 8} {
		for _, senders := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("workers=%d/senders=%d", workers, senders), func(b *testing.B) {
				c := committer.New(workers, s, nobody{}, clockwork.NewRealClock(), slog.New(slog.DiscardHandler), nil)
				defer c.Close()
				b.ReportAllocs()
				b.ResetTimer()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range senders {
					wg.Go(func() {
						for {
							k := next.Add(1)
							if k > int64(b.N) {
								return
							}
							d := draftOf(ids[k%int64(len(ids))], "alice", "a text of some length, as people write them in a chat, one hundred bytes or about that many, see?")
							if out, err := c.Send(b.Context(), []message.Draft{d}); err != nil || out[0].Err != nil {
								b.Error(err, out)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}
