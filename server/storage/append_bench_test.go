package storage_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/storage"
)

const (
	benchUsers    = 64
	benchSessions = 1000
	benchBody     = "a text of some length, as people write them in a chat, one hundred bytes or about that many, see?"
)

// bench is 1,000 groups of 64 users on a PostgreSQL that syncs.
type bench struct {
	pool  *pgxpool.Pool
	store *storage.Messages
	ids   []uuid.UUID
	users []string
	next  atomic.Int64
}

func newBench(b *testing.B, conns int) *bench {
	b.Helper()
	pool, err := storage.OpenPool(b.Context(), testenv.PostgresURL(b), conns)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	f := &bench{pool: pool, store: storage.NewMessages(storage.New(pool))}
	for range benchSessions {
		f.ids = append(f.ids, uuid.New())
	}
	for i := range benchUsers {
		f.users = append(f.users, fmt.Sprintf("user%02d", i))
	}
	addUsers(b, pool, f.users...)
	exec(b, pool, `INSERT INTO session (session_id, kind, owner_id, member_count, created_at)
		SELECT unnest($1::uuid[]), 2, 'user00', $2, now()`, f.ids, benchUsers)
	exec(b, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT u, s, 1, 1, 1 FROM unnest($1::text[]) u, unnest($2::uuid[]) s`, f.users, f.ids)
	exec(b, pool, `CREATE TABLE bare (LIKE msg INCLUDING ALL)`)
	// As it is on a database that has been up for a while: statistics, and no vacuum of what was just made.
	exec(b, pool, `VACUUM (ANALYZE)`)
	return f
}

// draft is the next message: sessions and senders in turn, so that a batch seldom has one twice.
func (f *bench) draft() message.Draft {
	k := int(f.next.Add(1))
	return draftOf(f.ids[k*389%benchSessions], f.users[k%benchUsers], benchBody)
}

func (f *bench) drafts(n int) []message.Draft {
	drafts := make([]message.Draft, n)
	for i := range drafts {
		drafts[i] = f.draft()
	}
	return drafts
}

// bare inserts the same rows into a table like msg and does nothing else: what a log would cost that promises nothing.
func (f *bench) bare(ctx context.Context, drafts []message.Draft, seq int64) error {
	n := len(drafts)
	ids, msgs, users, devices := make([]uuid.UUID, n), make([]uuid.UUID, n), make([]string, n), make([]string, n)
	types, bodies, digests := make([]int16, n), make([][]byte, n), make([]int64, n)
	seqs := make([]int64, n)
	for i, d := range drafts {
		ids[i], msgs[i], users[i], devices[i] = d.SessionID, d.MessageID, d.SenderID, d.SenderDevice
		types[i], bodies[i], digests[i], seqs[i] = int16(d.Type), d.Body, d.Digest, seq+int64(i)
	}
	_, err := f.pool.Exec(ctx, `INSERT INTO bare (session_id, seq_id, msg_id, user_id, device_id, type, content, digest,
			countable_no, created_at)
		SELECT unnest($1::uuid[]), unnest($2::bigint[]), unnest($3::uuid[]), unnest($4::text[]), unnest($5::text[]),
			unnest($6::smallint[]), unnest($7::bytea[]), unnest($8::bigint[]), unnest($2::bigint[]), now()`,
		ids, seqs, msgs, users, devices, types, bodies, digests)
	return err
}

// cpu is the time that the process pid has run, 0 where the system does not tell.
func cpu(pid int) time.Duration {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/schedstat")
	if err != nil {
		return 0
	}
	ns, _ := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
	return time.Duration(ns)
}

// backends is how long each backend of the pool has run.
func (f *bench) backends(b *testing.B) map[int]time.Duration {
	rows, err := f.pool.Query(b.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database()
		AND backend_type = 'client backend'`)
	require.NoError(b, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(b, err)
	used := make(map[int]time.Duration, len(pids))
	for _, pid := range pids {
		used[pid] = cpu(pid)
	}
	return used
}

// BenchmarkAppend is one transaction of n messages over 1,000 sessions on one connection, fsync on, in turn with one that
// inserts as many rows and does nothing else. Besides the rates it reports the processor time in PostgreSQL's backend,
// which is steadier on a busy machine.
func BenchmarkAppend(b *testing.B) {
	f := newBench(b, 1)
	var pid int
	require.NoError(b, f.pool.QueryRow(b.Context(), `SELECT pg_backend_pid()`).Scan(&pid))
	seq := int64(1)
	for _, n := range []int{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			var wall, used [2]time.Duration
			measure := func(which int, fn func() error) {
				was, started := cpu(pid), time.Now()
				err := fn()
				wall[which] += time.Since(started)
				used[which] += cpu(pid) - was
				if err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				drafts := f.drafts(n)
				measure(0, func() error {
					out, err := f.store.Append(b.Context(), drafts, time.Now())
					for i := range out {
						if out[i].Err != nil {
							return out[i].Err
						}
					}
					return err
				})
				measure(1, func() error { return f.bare(b.Context(), drafts, seq) })
				seq += int64(n)
			}
			rate := func(which int) float64 { return float64(b.N*n) / wall[which].Seconds() }
			each := func(which int) float64 { return float64(used[which].Nanoseconds()) / 1000 / float64(b.N*n) }
			b.ReportMetric(rate(0), "msg/s")
			b.ReportMetric(rate(1), "bare-msg/s")
			b.ReportMetric(rate(0)/rate(1), "of-bare")
			b.ReportMetric(each(0), "pg-us/msg")
			b.ReportMetric(each(1), "bare-pg-us/msg")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkCommitter is senders that each wait for their answer before the next call of some messages, over 1,000
// sessions, fsync on.
func BenchmarkCommitter(b *testing.B) {
	f := newBench(b, 16)
	for _, load := range []struct{ senders, each int }{{1, 1}, {64, 1}, {256, 1}, {64, 16}} {
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("senders=%d/each=%d/workers=%d", load.senders, load.each, workers), func(b *testing.B) {
				c := committer.New(workers, f.store, nobody{}, clockwork.NewRealClock(), slog.New(slog.DiscardHandler), nil)
				defer c.Close()
				b.ReportAllocs()
				before := f.backends(b)
				b.ResetTimer()
				var calls atomic.Int64
				var wg sync.WaitGroup
				for range load.senders {
					wg.Go(func() {
						for calls.Add(1) <= int64(b.N) {
							out, err := c.Send(b.Context(), f.drafts(load.each))
							if err != nil || out[0].Err != nil {
								b.Error(err, out)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				var used time.Duration
				for pid, ran := range f.backends(b) {
					used += ran - before[pid]
				}
				b.ReportMetric(float64(b.N*load.each)/b.Elapsed().Seconds(), "msg/s")
				b.ReportMetric(float64(used.Nanoseconds())/1000/float64(b.N*load.each), "pg-us/msg")
			})
		}
	}
}
