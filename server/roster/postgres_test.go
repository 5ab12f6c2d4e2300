package roster_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/roster"
	"github.com/parley-im/parley/server/storage"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// sink gives the feed's news to the map and to nobody else.
type sink struct{ *roster.Roster }

func (s sink) RelationsChanged(ctx context.Context, c []feed.Relation) { s.Apply(ctx, c) }
func (sink) StreamStarted(string, string, string, int64)               {}
func (sink) Advanced(string, uuid.UUID, int64)                         {}
func (sink) StateChanged(context.Context, string, uuid.UUID)           {}
func (sink) Recalled(uuid.UUID)                                        {}
func (sink) EpochChanged(string)                                       {}

// follow starts a feed and a map on a database, as a node does, and waits until the map answers.
func follow(t *testing.T, pool *pgxpool.Pool) *roster.Roster {
	t.Helper()
	db, clock, log := storage.New(pool), clockwork.NewRealClock(), slog.New(slog.DiscardHandler)
	r := roster.New(storage.Roster{DB: db}, roster.Config{}, clock, log, nil)
	f := feed.New(storage.Feed{DB: db}, sink{r}, clock, log, nil)
	_, err := f.Start(t.Context())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	wg.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	eventually(t, "the map is fresh", func() bool { return r.Status().Fresh })
	return r
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 2*time.Minute, 20*time.Millisecond, what)
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// The hash in SQL is the hash in Go, for ids of every kind.
func TestSumsAgree(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	exec(t, pool, `INSERT INTO app_user (user_id, created_at, deactivated_at) VALUES ('a', now(), NULL), ('1:a', now(), now()),
		('Zoë 🙂', now(), NULL), (repeat('x', 64), now(), NULL)`)
	exec(t, pool, `INSERT INTO user_to_user SELECT a.user_id, b.user_id, 1 + row_number() OVER () % 3, now()
		FROM app_user a, app_user b WHERE a.user_id <> b.user_id`)
	exec(t, pool, `INSERT INTO user_to_device (user_id, device_id, created_at, revoked_at)
		SELECT user_id, 'tél:' || n, now(), CASE WHEN n > 1 THEN now() END FROM app_user, generate_series(1, 3) n`)
	exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq, left_seq, is_muted)
		SELECT user_id, gen_random_uuid(), 1 + n % 3, 1, 1, CASE WHEN n > 2 THEN 5 END, n % 2 = 0
		FROM app_user, generate_series(1, 5) n`)
	store := storage.Roster{DB: storage.New(pool)}
	memory, postgres, bytes, err := roster.Verify(t.Context(), store, roster.Config{})
	require.NoError(t, err)
	require.Equal(t, postgres, memory)
	require.Positive(t, bytes)
	require.Equal(t, []int64{4, 12, 12, 20}, []int64{memory.Users.Rows, memory.Relations.Rows, memory.Devices.Rows, memory.Memberships.Rows})

	exec(t, pool, `UPDATE user_to_session SET role = role % 3 + 1 WHERE user_id = 'a'`)
	_, other, _, err := roster.Verify(t.Context(), store, roster.Config{})
	require.NoError(t, err)
	require.NotEqual(t, postgres.Memberships, other.Memberships)
	require.Equal(t, postgres.Devices, other.Devices)
}

// What plain SQL changes is seen, and what it deletes is gone.
func TestChangesByPlainSQL(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	r := follow(t, pool)
	id := uuid.New()
	exec(t, pool, `INSERT INTO app_user (user_id, created_at) VALUES ('alice', now()), ('bob', now())`)
	exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq) VALUES ('alice', $1, 1, 1, 1), ('bob', $1, 1, 1, 1)`, id)
	exec(t, pool, `INSERT INTO user_to_device (user_id, device_id, created_at) VALUES ('alice', 'phone', now())`)
	exec(t, pool, `INSERT INTO user_to_user VALUES ('alice', 'bob', 3, now())`)
	member := func(user string) bool { fresh, yes := r.IsMember(user, id); return fresh && yes }
	device := func() bool { allowed, _, known := r.Device("alice", "phone"); return allowed && known }
	eventually(t, "joined", func() bool { return member("alice") && member("bob") })
	eventually(t, "registered", device)
	eventually(t, "blocked", func() bool { mark, _ := r.Relation("alice", "bob"); return mark == 3 })

	exec(t, pool, `UPDATE user_to_session SET left_seq = 2 WHERE user_id = 'alice'`)
	exec(t, pool, `DELETE FROM user_to_user`)
	exec(t, pool, `UPDATE app_user SET deactivated_at = now() WHERE user_id = 'alice'`)
	eventually(t, "left", func() bool { fresh, yes := r.IsMember("alice", id); return fresh && !yes })
	eventually(t, "unblocked", func() bool { mark, fresh := r.Relation("alice", "bob"); return fresh && mark == 0 })
	eventually(t, "deactivated", func() bool { allowed, _, known := r.Device("alice", "phone"); return known && !allowed })
	// The map may fall silent at any time, where its feed is held up.
	eventually(t, "bob stays", func() bool { return member("bob") })
	var members []string
	eventually(t, "a list of members", func() (fresh bool) { members, fresh = r.Members(id); return fresh })
	require.Equal(t, []string{"bob"}, members)
}

// Writers that pause before they commit, beside a transaction that stays open for the whole test, leave no row different:
// neither for a map that watched all of it nor for one that was loaded in the middle.
func TestNoChangeIsMissed(t *testing.T) {
	t.Parallel()
	span := 10 * time.Second
	if testing.Short() {
		span = 2 * time.Second
	}
	pool := testenv.Postgres(t)
	cfg := pool.Config().Copy()
	cfg.MaxConns = 34
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	exec(t, pool, `INSERT INTO app_user (user_id, created_at) SELECT 'u' || n, now() FROM generate_series(0, 199) n`)

	idle, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer idle.Rollback(t.Context()) //nolint:errcheck // ends with the test
	_, err = idle.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)

	first := follow(t, pool)
	until, stop := context.WithTimeout(t.Context(), span)
	defer stop()
	var wg sync.WaitGroup
	for w := range 24 {
		wg.Go(func() { write(t, pool, until, uint64(w)) })
	}
	second := follow(t, pool)
	second.Lost()
	wg.Wait()
	for name, r := range map[string]*roster.Roster{"from the start": first, "loaded between": second} {
		var memory, postgres roster.Sums
		eventually(t, name, func() bool {
			m, p, ok, err := r.Checksum(t.Context())
			require.NoError(t, err)
			memory, postgres = m, p
			return ok && m == p
		})
		require.Equal(t, postgres, memory, name)
		require.Positive(t, memory.Memberships.Rows+memory.Devices.Rows)
	}
}

// write changes relations until ctx ends, some in any case, in transactions of a few changes that pause before they commit.
func write(t *testing.T, pool *pgxpool.Pool, ctx context.Context, seed uint64) { //nolint:revive // t comes first
	rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // repeatable
	user := func() string { return fmt.Sprintf("u%d", rng.IntN(200)) }
	for n := 0; n < 10 || ctx.Err() == nil; n++ {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		session := uuid.UUID{0: byte(rng.IntN(30)), 15: 1}
		var sql string
		args := []any{user(), session}
		switch rng.IntN(8) {
		case 0, 1:
			sql = `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq) VALUES ($1, $2, 1, 1, 1)
				ON CONFLICT (user_id, session_id) DO UPDATE SET left_seq = NULL, role = user_to_session.role % 3 + 1`
		case 2:
			sql = `UPDATE user_to_session SET left_seq = joined_seq WHERE user_id = $1 AND session_id = $2`
		case 3:
			sql = `DELETE FROM user_to_session WHERE user_id = $1 AND session_id = $2`
		case 4:
			sql, args = `INSERT INTO user_to_device (user_id, device_id, created_at) VALUES ($1, $2, now())
				ON CONFLICT (user_id, device_id) DO UPDATE SET revoked_at = now()`, []any{user(), "d" + strconv.Itoa(rng.IntN(5))}
		case 5:
			sql, args = `DELETE FROM user_to_device WHERE user_id = $1`, []any{user()}
		case 6:
			a, b := rng.IntN(200), rng.IntN(199)
			sql, args = `INSERT INTO user_to_user VALUES ($1, $2, 1, now()) ON CONFLICT (user_id, peer_id) DO UPDATE
				SET kind = user_to_user.kind % 3 + 1`, []any{fmt.Sprintf("u%d", a), fmt.Sprintf("u%d", (a+b+1)%200)}
		case 7:
			sql, args = `UPDATE app_user SET deactivated_at = CASE WHEN deactivated_at IS NULL THEN now() END WHERE user_id = $1`,
				[]any{user()}
		}
		if _, err = tx.Exec(t.Context(), sql, args...); err == nil {
			select {
			case <-time.After(time.Duration(rng.IntN(60)) * time.Millisecond):
			case <-ctx.Done():
			}
			err = tx.Commit(t.Context())
		} else {
			_ = tx.Rollback(t.Context())
		}
		if err != nil && !storage.Retryable(err) {
			t.Error(err)
			return
		}
	}
}

// How long loading takes, and what it comes to; 1 M memberships by `PARLEY_TEST_MEMBERSHIPS=1000000`.
func TestLoadMany(t *testing.T) {
	n := 20_000
	if s := os.Getenv("PARLEY_TEST_MEMBERSHIPS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	pool := testenv.Postgres(t)
	for _, table := range []string{"app_user", "user_to_device", "user_to_session"} {
		exec(t, pool, `ALTER TABLE `+table+` DISABLE TRIGGER ALL`) // filling is not what is measured
	}
	exec(t, pool, `INSERT INTO app_user (user_id, created_at) SELECT 'user-' || n, now() FROM generate_series(0, $1 / 10) n`, n)
	exec(t, pool, `INSERT INTO user_to_device (user_id, device_id, created_at) SELECT user_id, 'device-' || user_id, now() FROM app_user`)
	exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT 'user-' || n / 10, md5('s' || n % ($1 / 4 + 1))::uuid, 1, 1, 1 FROM generate_series(0, $1 - 1) n`, n)
	r := roster.New(storage.Roster{DB: storage.New(pool)}, roster.Config{}, clockwork.NewRealClock(), slog.New(slog.DiscardHandler), nil)
	began := time.Now()
	require.NoError(t, r.Load(t.Context()))
	s := r.Status()
	t.Logf("%d memberships loaded in %s, %.1f bytes each", s.Memberships, time.Since(began), float64(s.Bytes)/float64(s.Memberships))
	require.EqualValues(t, n, s.Memberships)
	memory, postgres, _, err := roster.Verify(t.Context(), storage.Roster{DB: storage.New(pool)}, roster.Config{})
	require.NoError(t, err)
	require.Equal(t, postgres, memory)
}
