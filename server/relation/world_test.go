package relation_test

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/relation"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is the service on a database of its own.
type world struct {
	*relation.Service
	t     testing.TB
	pool  *pgxpool.Pool
	clock *clockwork.FakeClock
	told  *told
}

func newWorld(t testing.TB, users ...string) *world {
	t.Helper()
	pool := testenv.Postgres(t)
	w := &world{t: t, pool: pool, clock: clockwork.NewFakeClockAt(time.Date(2030, 1, 2, 3, 4, 5, 678_901_234, time.UTC)),
		told: &told{}}
	w.Service = relation.NewService(storage.Relations{DB: storage.New(pool)}, w.told, w.clock)
	w.exec(`INSERT INTO app_user (user_id, created_at) SELECT unnest($1::text[]), 'epoch'`, users)
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.pool.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// now is the clock's time as it is stored.
func (w *world) now() time.Time { return w.clock.Now().Truncate(time.Microsecond) }

// rows returns all of user_to_user as "user>peer" -> kind.
func (w *world) rows() map[string]relation.Mark {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), `SELECT user_id || '>' || peer_id, kind FROM user_to_user`)
	require.NoError(w.t, err)
	defer rows.Close()
	out := map[string]relation.Mark{}
	for rows.Next() {
		var link string
		var kind relation.Mark
		require.NoError(w.t, rows.Scan(&link, &kind))
		out[link] = kind
	}
	require.NoError(w.t, rows.Err())
	return out
}

// noted returns and forgets what other nodes are told, as "user>peer".
func (w *world) noted() []string {
	w.t.Helper()
	var out []string
	require.NoError(w.t, w.pool.QueryRow(w.t.Context(), `WITH gone AS (
		DELETE FROM relation_change WHERE kind = 2 RETURNING user_id || '>' || other_id AS link)
		SELECT array_agg(link ORDER BY link) FROM gone`).Scan(&out))
	return out
}

// list returns all that a user sees, page by page.
func (w *world) list(user string, kind relation.Kind, limit int) map[string]relation.Kind {
	w.t.Helper()
	out, after := map[string]relation.Kind{}, ""
	for {
		page, more, err := w.List(w.t.Context(), user, kind, after, limit)
		require.NoError(w.t, err)
		require.LessOrEqual(w.t, len(page), limit)
		for _, r := range page {
			require.Greater(w.t, r.UserID, after, "ordered by user id")
			after = r.UserID
			out[r.UserID] = r.Kind
		}
		if !more {
			return out
		}
		require.Len(w.t, page, limit)
	}
}

func on(user string) session.Actor { return session.Actor{UserID: user, DeviceID: user + "-phone"} }

func refused(t testing.TB, err error, want refusal.Reason) {
	t.Helper()
	require.ErrorIs(t, err, refusal.New(want, ""))
}

// tell is one call of NotifyUser.
type tell struct {
	user, except string
	peer         string
	kind         parleyv1.RelationKind
}

// told remembers what was told.
type told struct {
	mu    sync.Mutex
	calls []tell
}

func (n *told) NotifyUser(userID, exceptDevice string, ev *parleyv1.Event) {
	r := ev.GetRelation().GetRelation()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, tell{user: userID, except: exceptDevice, peer: r.GetUserId(), kind: r.GetKind()})
}

// take returns and forgets what was told.
func (n *told) take() []tell {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.calls
	n.calls = nil
	return out
}
