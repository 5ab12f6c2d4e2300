package state_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
)

// load appends n texts at once and gives the planner its numbers.
func (w *world) load(t require.TestingT, id uuid.UUID, sender string, n int) {
	w.exec(t, `INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
		SELECT $1, s.last_seq + n, gen_random_uuid(), $2, 'd', 1, convert_to(repeat('x', 200), 'UTF8'), 1, s.countable_total + n, $4
		FROM session s, generate_series(1, $3::bigint) n WHERE s.session_id = $1`, id, sender, n, time.Unix(0, 0))
	w.exec(t, `UPDATE session SET last_seq = last_seq + $2, countable_total = countable_total + $2 WHERE session_id = $1`, id, n)
}

func BenchmarkGetUnread(b *testing.B) {
	w := newWorld(b.Context(), testenv.Postgres(b))
	for range 100 {
		id := w.group(b, "ann", "bob")
		w.load(b, id, "ann", 1000)
		w.exec(b, `UPDATE user_to_session SET read_seq = 951 WHERE user_id = 'bob' AND session_id = $1`, id)
		_, err := w.states.MarkRead(b.Context(), on("bob"), id, []int64{960, 970})
		require.NoError(b, err)
		w.recall(b, id, "ann", 980)
	}
	w.exec(b, `VACUUM ANALYZE`)
	b.ReportAllocs()
	for b.Loop() {
		total, views, err := w.states.Unread(b.Context(), "bob", nil)
		if err != nil || total != 4700 || len(views) != 100 {
			b.Fatal(total, len(views), err)
		}
	}
}

func BenchmarkListReaders(b *testing.B) {
	w := newWorld(b.Context(), testenv.Postgres(b))
	members := names(10_000)
	id := w.group(b, members...)
	w.load(b, id, members[0], 1000)
	w.exec(b, `UPDATE user_to_session SET read_seq = 1 + abs(hashtext(user_id)) % 1001 WHERE session_id = $1`, id)
	w.exec(b, `INSERT INTO msg_state (user_id, session_id, seq_id, msg_id, is_read)
		SELECT m.user_id, g.session_id, g.seq_id, g.msg_id, true FROM user_to_session m JOIN msg g USING (session_id)
		WHERE g.session_id = $1 AND g.seq_id = 500 AND m.read_seq = 400`, id)
	w.exec(b, `VACUUM ANALYZE`)
	for _, page := range []struct{ name, after string }{{"first page", ""}, {"last page", members[9_990]}} {
		b.Run(page.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := w.states.Readers(b.Context(), members[0], id, 500, page.after, 100)
				if err != nil || r.Count < 4_000 || len(r.Users) == 0 {
					b.Fatal(r, err)
				}
			}
		})
	}
}

func BenchmarkMarkReadTo(b *testing.B) {
	w := newWorld(b.Context(), testenv.Postgres(b))
	id := w.group(b, "ann", "bob")
	w.load(b, id, "ann", 100_000)
	w.exec(b, `VACUUM ANALYZE`)
	seq := int64(1)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		if _, err := w.states.MarkReadTo(b.Context(), on("bob"), id, min(seq, 100_000)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatesOf(b *testing.B) {
	w := newWorld(b.Context(), testenv.Postgres(b))
	var ranges []message.Range
	for range 100 {
		id := w.group(b, "ann", "bob")
		w.load(b, id, "ann", 1000)
		_, err := w.states.MarkRead(b.Context(), on("bob"), id, []int64{960, 970})
		require.NoError(b, err)
		ranges = append(ranges, message.Range{SessionID: id, From: 950, To: 1001})
	}
	w.exec(b, `VACUUM ANALYZE`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.states.StatesOf(b.Context(), "bob", ranges); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMarksTogether is 64 callers at once, each marking one user's own session further, on a database that syncs
// every commit to disk.
func BenchmarkMarksTogether(b *testing.B) {
	const callers = 64
	w := newWorld(b.Context(), durable(b))
	users := names(callers)
	ids := make([]uuid.UUID, callers)
	for i, user := range users {
		ids[i] = w.group(b, "ann", user)
		w.load(b, ids[i], "ann", 2_000)
	}
	w.exec(b, `VACUUM ANALYZE`)
	var left atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for i, user := range users {
		all.Go(func() {
			for seq := int64(2); left.Add(-1) >= 0; seq++ {
				if _, err := w.states.MarkReadTo(b.Context(), on(user), ids[i], min(seq, 2_000)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "marks/s")
}

// durable returns a pool of the server's usual size on a database whose commits are durable, as PostgreSQL's own settings make them.
func durable(b *testing.B) *pgxpool.Pool {
	p := testenv.OwnPostgres(b, nil)
	config, err := pgxpool.ParseConfig(p.URL())
	require.NoError(b, err)
	config.MaxConns = 32
	pool, err := pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	return pool
}
