package account_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/account"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/storage"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// calls remembers what the service asked of its neighbours, in order.
type calls []string

func (c *calls) EndUser(userID string, why refusal.Reason) {
	*c = append(*c, "end "+userID+" "+string(why))
}

func (c *calls) ForgetUser(userID string) { *c = append(*c, "forget "+userID) }

func newService(t *testing.T) (*account.Service, *pgxpool.Pool, *clockwork.FakeClock, *calls) {
	t.Helper()
	pool := testenv.Postgres(t)
	clock := clockwork.NewFakeClockAt(time.Date(2030, 1, 2, 3, 4, 5, 678_901_234, time.UTC))
	neighbours := &calls{}
	return account.NewService(storage.Accounts{DB: storage.New(pool)}, neighbours, neighbours, clock), pool, clock, neighbours
}

func TestUpsertAndDeactivate(t *testing.T) {
	s, pool, clock, neighbours := newService(t)
	ctx := t.Context()
	made := clock.Now().Truncate(time.Microsecond)

	u, err := s.Upsert(ctx, "alice", account.Profile{DisplayName: "Alice", AvatarURL: "https://example.org/a.png"})
	require.NoError(t, err)
	require.Equal(t, account.User{
		ID: "alice", Profile: account.Profile{DisplayName: "Alice", AvatarURL: "https://example.org/a.png"}, CreatedAt: made,
	}, u)
	clock.Advance(time.Hour)
	u, err = s.Upsert(ctx, "alice", account.Profile{DisplayName: "Alicia"})
	require.NoError(t, err)
	require.Equal(t, account.User{ID: "alice", Profile: account.Profile{DisplayName: "Alicia"}, CreatedAt: made}, u)
	require.Empty(t, *neighbours)

	since := func() (at *time.Time) {
		require.NoError(t, pool.QueryRow(ctx, `SELECT deactivated_at FROM app_user WHERE user_id = 'alice'`).Scan(&at))
		return at
	}
	require.NoError(t, s.Deactivate(ctx, "alice"))
	first := since()
	require.True(t, first.Equal(clock.Now().Truncate(time.Microsecond)))
	require.Equal(t, calls{"forget alice", "end alice USER_DEACTIVATED"}, *neighbours)
	clock.Advance(time.Hour)
	require.NoError(t, s.Deactivate(ctx, "alice"))
	require.Equal(t, first, since(), "since when does not move")

	u, err = s.Upsert(ctx, "alice", account.Profile{})
	require.NoError(t, err)
	require.Nil(t, u.DeactivatedAt)
	require.Nil(t, since())

	*neighbours = nil
	require.ErrorIs(t, s.Deactivate(ctx, "nobody"), refusal.New(refusal.UserUnavailable, ""))
	require.Empty(t, *neighbours)
}

func TestInvalidFields(t *testing.T) {
	s, _, _, _ := newService(t) //nolint:dogsled // only the service
	for field, upsert := range map[string]func() error{
		"user_id":      func() error { _, err := s.Upsert(t.Context(), " alice", account.Profile{}); return err },
		"display_name": func() error { _, err := s.Upsert(t.Context(), "a", account.Profile{DisplayName: "a\x00"}); return err },
		"avatar_url":   func() error { _, err := s.Upsert(t.Context(), "a", account.Profile{AvatarURL: "\xff"}); return err },
	} {
		var e *refusal.Error
		require.ErrorAs(t, upsert(), &e)
		require.Equal(t, refusal.InvalidField, e.Reason)
		require.Equal(t, field, e.Meta["field"])
	}
	require.ErrorIs(t, s.Deactivate(t.Context(), "a\n"), refusal.New(refusal.InvalidField, ""))
}

func TestEstimates(t *testing.T) {
	s, pool, _, _ := newService(t)
	e, err := s.Estimates(t.Context())
	require.NoError(t, err)
	require.Equal(t, account.Estimates{}, e, "-1 before the first analyze is no estimate")
	_, err = pool.Exec(t.Context(), `INSERT INTO app_user (user_id, created_at) SELECT 'u' || i, 'epoch' FROM generate_series(1, 500) i`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `ANALYZE app_user`)
	require.NoError(t, err)
	e, err = s.Estimates(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, e.Users, int64(500))
}

func TestCheckID(t *testing.T) {
	for _, id := range []string{
		"a", "alice@example.org", "a b", "ünïcödé", "日本", "👩‍👩‍👧", "../..", "'; DROP", strings.Repeat("x", 64), "\u200b",
	} {
		require.NoError(t, account.CheckID("user_id", id), "%q", id)
	}
	for _, id := range []string{
		"", strings.Repeat("x", 65), strings.Repeat("ü", 33), " a", "a ", "a\u00a0", "\u2003a", "a\u2028", " ", "\n", "a\tb", "a\x00", "\x7f",
		"a\u0085b", "\xff", "a\xc3", "\xed\xa0\x80",
	} {
		err := account.CheckID("device_id", id)
		var e *refusal.Error
		require.ErrorAs(t, err, &e, "%q", id)
		require.Equal(t, refusal.InvalidField, e.Reason)
		require.Equal(t, "device_id", e.Meta["field"])
		require.NotEmpty(t, e.Meta["rule"])
	}
}

// Whatever passes as text can be stored as text.
func FuzzCheckText(f *testing.F) {
	for _, s := range []string{"", "a", "a\x00", "\xff", "a\nb", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ok := !strings.ContainsRune(s, 0) && strings.ToValidUTF8(s, "") == s
		require.Equal(t, ok, account.CheckText("title", s) == nil)
		if account.CheckID("user_id", s) == nil {
			require.True(t, ok)
		}
	})
}
