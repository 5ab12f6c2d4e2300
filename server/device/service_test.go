package device_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// calls remembers what the service asked of its neighbours, in order.
type calls []string

func (c *calls) EndDevice(userID, deviceID string, why refusal.Reason) {
	*c = append(*c, fmt.Sprintf("end %s/%s %s", userID, deviceID, why))
}

func (c *calls) Forget(userID, deviceID string) { *c = append(*c, "forget "+userID+"/"+deviceID) }

// world is the service on a database of its own.
type world struct {
	*device.Service
	t     testing.TB
	pool  *pgxpool.Pool
	store storage.Devices
	clock *clockwork.FakeClock
	asked *calls
}

func newWorld(t testing.TB) *world {
	t.Helper()
	pool := testenv.Postgres(t)
	w := &world{t: t, pool: pool, store: storage.Devices{DB: storage.New(pool)}, asked: &calls{},
		clock: clockwork.NewFakeClockAt(time.Date(2030, 1, 2, 3, 4, 5, 678_901_234, time.UTC))}
	w.Service = device.NewService(w.store, w.asked, w.asked, w.clock)
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.pool.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

func (w *world) count(sql string) (n int) {
	w.t.Helper()
	require.NoError(w.t, w.pool.QueryRow(w.t.Context(), sql).Scan(&n))
	return n
}

func (w *world) now() time.Time { return w.clock.Now().Truncate(time.Microsecond) }

// seen notes sightings at one time, written when it returns.
func (w *world) seen(at time.Time, who ...session.Actor) {
	s := device.NewSightings(w.store, clockwork.NewFakeClockAt(at), slog.New(slog.DiscardHandler))
	for _, a := range who {
		s.Seen(a.UserID, a.DeviceID, 1)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	s.Run(ctx) // writes what is left
}

func of(user, dev string) session.Actor { return session.Actor{UserID: user, DeviceID: dev} }

func refused(t testing.TB, err error, want refusal.Reason) {
	t.Helper()
	require.ErrorIs(t, err, refusal.New(want, ""))
}

func TestRegister(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	made := w.now()
	first := device.Details{Platform: 2, PushTarget: "push:1", DisplayName: "Phone"}
	d, err := w.Register(ctx, of("alice", "phone"), first)
	require.NoError(t, err)
	require.Equal(t, device.Device{ID: "phone", Details: first, CreatedAt: made}, d)
	require.Equal(t, 1, w.count(`SELECT count(*) FROM app_user WHERE user_id = 'alice' AND display_name = ''`))

	// Again: what is said replaces what was said, and a platform that is not said stays.
	w.clock.Advance(time.Hour)
	w.seen(w.clock.Now(), of("alice", "phone"))
	seen := w.now()
	d, err = w.Register(ctx, of("alice", "phone"), device.Details{DisplayName: "Old phone"})
	require.NoError(t, err)
	want := device.Device{ID: "phone", Details: device.Details{Platform: 2, DisplayName: "Old phone"}, CreatedAt: made, LastSeenAt: &seen}
	require.Equal(t, want, d)

	tablet, err := w.Register(ctx, of("alice", "Tablet"), device.Details{})
	require.NoError(t, err)
	_, err = w.Register(ctx, of("bob", "phone"), device.Details{})
	require.NoError(t, err)
	list, err := w.List(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, []device.Device{tablet, want}, list, "in byte order, nobody else's")
	list, err = w.List(ctx, "nobody")
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestRegisterRefusals(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for _, who := range []session.Actor{of("alice ", "d"), of("alice", "d\x07"), of("", "d"), of("alice", ""), of("\xff", "d")} {
		_, err := w.Register(ctx, who, device.Details{})
		refused(t, err, refusal.InvalidField)
	}
	_, err := w.Register(ctx, of("alice", "d"), device.Details{PushTarget: "a\x00"})
	refused(t, err, refusal.InvalidField)
	_, err = w.Register(ctx, of("alice", "d"), device.Details{DisplayName: "a\x00"})
	refused(t, err, refusal.InvalidField)

	_, err = w.Register(ctx, of("alice", "d"), device.Details{})
	require.NoError(t, err)
	require.NoError(t, w.Revoke(ctx, "alice", "d"))
	_, err = w.Register(ctx, of("alice", "d"), device.Details{})
	refused(t, err, refusal.DeviceRevoked)

	w.exec(`UPDATE app_user SET deactivated_at = 'epoch'`)
	for _, id := range []string{"d", "new"} {
		_, err = w.Register(ctx, of("alice", id), device.Details{})
		refused(t, err, refusal.UserDeactivated)
	}
	require.Equal(t, 1, w.count(`SELECT count(*) FROM user_to_device`))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM app_user`), "a refused registration makes no user")
}

// The bound holds against registrations at the same time, and against no user twice being made.
func TestTooManyDevices(t *testing.T) {
	w := newWorld(t)
	var made, full atomic.Int64
	var wg sync.WaitGroup
	for i := range device.MaxDevices + 16 {
		wg.Go(func() {
			_, err := w.Register(t.Context(), of("alice", fmt.Sprintf("d%d", i)), device.Details{})
			switch reason, _ := refusal.Of(err); {
			case err == nil:
				made.Add(1)
			case reason == refusal.TooManyDevices:
				full.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, device.MaxDevices, made.Load())
	require.EqualValues(t, 16, full.Load())

	list, err := w.List(t.Context(), "alice")
	require.NoError(t, err)
	require.Len(t, list, device.MaxDevices)
	_, err = w.Register(t.Context(), of("alice", list[0].ID), device.Details{DisplayName: "known"})
	require.NoError(t, err, "a known device is none too many")
	require.NoError(t, w.Revoke(t.Context(), "alice", list[0].ID))
	_, err = w.Register(t.Context(), of("alice", "new"), device.Details{})
	require.NoError(t, err)
	_, err = w.Register(t.Context(), of("alice", "newer"), device.Details{})
	refused(t, err, refusal.TooManyDevices)
}

func TestRevoke(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	_, err := w.Register(ctx, of("alice", "phone"), device.Details{PushTarget: "push:1"})
	require.NoError(t, err)
	w.exec(`INSERT INTO device_cursor (user_id, device_id, session_id, acked_seq)
		VALUES ('alice', 'phone', gen_random_uuid(), 1), ('alice', 'tablet', gen_random_uuid(), 1)`)

	refused(t, w.Revoke(ctx, "alice", "unknown"), refusal.DeviceUnavailable)
	refused(t, w.Revoke(ctx, "nobody", "phone"), refusal.DeviceUnavailable)
	refused(t, w.Revoke(ctx, "alice", "phone "), refusal.InvalidField)
	require.Empty(t, *w.asked)

	require.NoError(t, w.Revoke(ctx, "alice", "phone"))
	require.Equal(t, calls{"forget alice/phone", "end alice/phone DEVICE_REVOKED"}, *w.asked)
	revoked := func() (at time.Time) {
		require.NoError(t, w.pool.QueryRow(ctx, `SELECT revoked_at FROM user_to_device`).Scan(&at))
		return at
	}
	require.True(t, revoked().Equal(w.now()))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM device_cursor`), "only its own cursors go")
	require.Equal(t, 1, w.count(`SELECT count(*) FROM user_to_device WHERE push_target = ''`))
	list, err := w.List(ctx, "alice")
	require.NoError(t, err)
	require.Empty(t, list)

	first := revoked()
	w.clock.Advance(time.Hour)
	require.NoError(t, w.Revoke(ctx, "alice", "phone"))
	require.Equal(t, first, revoked())
	w.seen(w.clock.Now(), of("alice", "phone"), of("alice", "unknown"))
	require.Zero(t, w.count(`SELECT count(*) FROM user_to_device WHERE last_seen_at IS NOT NULL`))
}

func TestSeenDoesNotGoBack(t *testing.T) {
	w := newWorld(t)
	_, err := w.Register(t.Context(), of("alice", "phone"), device.Details{})
	require.NoError(t, err)
	w.clock.Advance(time.Hour)
	late := w.now()
	w.seen(late, of("alice", "phone"))
	w.seen(late.Add(-time.Minute), of("alice", "phone"))
	list, err := w.List(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, &late, list[0].LastSeenAt)
}

func TestListRefused(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var users, devices []string
	ask := func(user, dev string) { users, devices = append(users, user), append(devices, dev) }
	for _, who := range []session.Actor{of("alice", "phone"), of("alice", "lost"), of("bob", "phone"), of("carol", "phone")} {
		_, err := w.Register(ctx, who, device.Details{})
		require.NoError(t, err)
		ask(who.UserID, who.DeviceID)
	}
	got, err := w.ListRefused(ctx, users, devices)
	require.NoError(t, err)
	require.Empty(t, got)

	ask("alice", "unknown")
	ask("nobody", "phone")
	ask("bob", "unknown")
	require.NoError(t, w.Revoke(ctx, "alice", "lost"))
	w.exec(`UPDATE app_user SET deactivated_at = 'epoch' WHERE user_id = 'bob'`)
	got, err = w.ListRefused(ctx, users, devices)
	require.NoError(t, err)
	slices.SortFunc(got, func(a, b device.Refused) int {
		return strings.Compare(a.UserID+"/"+a.DeviceID, b.UserID+"/"+b.DeviceID)
	})
	require.Equal(t, []device.Refused{
		{UserID: "alice", DeviceID: "lost", Reason: refusal.DeviceRevoked},
		{UserID: "alice", DeviceID: "unknown", Reason: refusal.DeviceRevoked},
		{UserID: "bob", DeviceID: "phone", Reason: refusal.UserDeactivated},
		{UserID: "bob", DeviceID: "unknown", Reason: refusal.UserDeactivated},
		{UserID: "nobody", DeviceID: "phone", Reason: refusal.DeviceRevoked},
	}, got)
	got, err = w.ListRefused(ctx, nil, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	// The gate asks one by one, by the same rule.
	gate := device.NewGate(w.store, w.clock)
	require.NoError(t, gate.Check(ctx, "alice", "phone"))
	refused(t, gate.Check(ctx, "alice", "lost"), refusal.DeviceRevoked)
	refused(t, gate.Check(ctx, "alice", "unknown"), refusal.DeviceRevoked)
	refused(t, gate.Check(ctx, "bob", "phone"), refusal.UserDeactivated)
	refused(t, gate.Check(ctx, "bob", "unknown"), refusal.UserDeactivated)
	refused(t, gate.Check(ctx, "nobody", "phone"), refusal.DeviceRevoked)
}

// minter is a signing key that writes down what it signed.
type minter struct {
	signed string
	err    error
}

func (m *minter) Mint(userID, deviceID string, ttl time.Duration) (string, time.Time, error) {
	m.signed = fmt.Sprintf("%s/%s %s", userID, deviceID, ttl)
	return "secret", time.Unix(1, 0), m.err
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	m := &minter{}
	tokens := device.NewTokens(w.Service, m)

	got, err := tokens.Create(ctx, "alice", "phone", 3, 0)
	require.NoError(t, err)
	require.Equal(t, device.Token{Text: "secret", ExpiresAt: time.Unix(1, 0)}, got)
	require.Equal(t, "alice/phone 24h0m0s", m.signed)
	list, err := w.List(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, []device.Device{{ID: "phone", Details: device.Details{Platform: 3}, CreatedAt: w.now()}}, list)

	// Only a new device takes the platform: one that registered knows better.
	_, err = w.Register(ctx, of("alice", "phone"), device.Details{Platform: 1, PushTarget: "push:1", DisplayName: "Phone"})
	require.NoError(t, err)
	_, err = tokens.Create(ctx, "alice", "phone", 5, time.Minute)
	require.NoError(t, err)
	require.Equal(t, "alice/phone 1m0s", m.signed)
	list, err = w.List(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, device.Details{Platform: 1, PushTarget: "push:1", DisplayName: "Phone"}, list[0].Details)

	for _, ttl := range []time.Duration{-1, 1, time.Minute - 1, device.MaxTokenTTL + 1} {
		_, err = tokens.Create(ctx, "alice", "phone", 0, ttl)
		refused(t, err, refusal.InvalidField)
	}
	_, err = tokens.Create(ctx, "alice", " phone", 0, 0)
	refused(t, err, refusal.InvalidField)
	require.NoError(t, w.Revoke(ctx, "alice", "phone"))
	m.signed = ""
	_, err = tokens.Create(ctx, "alice", "phone", 0, 0)
	refused(t, err, refusal.DeviceRevoked)
	w.exec(`UPDATE app_user SET deactivated_at = 'epoch'`)
	_, err = tokens.Create(ctx, "alice", "tablet", 0, 0)
	refused(t, err, refusal.UserDeactivated)
	require.Empty(t, m.signed)

	m.err = errors.New("no key")
	_, err = tokens.Create(ctx, "bob", "phone", 0, 0)
	require.ErrorIs(t, err, m.err)
	_, err = device.NewTokens(w.Service, nil).Create(ctx, "carol", "phone", 0, 0)
	refused(t, err, refusal.NotAllowed)
	require.Zero(t, w.count(`SELECT count(*) FROM app_user WHERE user_id = 'carol'`))
}
