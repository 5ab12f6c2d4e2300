package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// startStandby makes a hot standby of primary, on TCP too, for this test alone.
func startStandby(t *testing.T, primary *dev.Postgres) *dev.Postgres {
	t.Helper()
	o := testenv.PostgresOptions(testenv.DataDir(t))
	o.TCP = true
	standby, err := dev.StartStandby(t.Context(), primary, o)
	if errors.Is(err, dev.ErrNoBaseBackup) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = standby.Kill(); _ = standby.Stop(t.Context()) })
	return standby
}

// eitherOf is the URL of whichever of two servers takes writes.
func eitherOf(t *testing.T, a, b *dev.Postgres) string {
	t.Helper()
	one, err := url.Parse(a.TCPURL())
	require.NoError(t, err)
	two, err := url.Parse(b.TCPURL())
	require.NoError(t, err)
	one.Host += "," + two.Host
	return one.String()
}

// ask runs a query for one value.
func ask[T any](t *testing.T, pg *dev.Postgres, query string, args ...any) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.URL())
	require.NoError(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // nothing was left to send
	require.NoError(t, conn.QueryRow(t.Context(), query, args...).Scan(&v))
	return v
}

// resyncs counts the events that tell a device of a new epoch.
func resyncs(d *rig.Device) (n int) {
	for _, ev := range d.Events() {
		if ev.GetResync().GetReason() == parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED {
			n++
		}
	}
	return n
}

// afterResync is what a device was shown of a session after it was last told to start afresh: the bodies in order. The
// test fails unless their seqs are 1, 2, 3 ... without holes.
func afterResync(t *testing.T, d *rig.Device, id string) (bodies []string) {
	t.Helper()
	events := d.Events()
	rest := events
	for i, ev := range events {
		if ev.GetResync().GetReason() == parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED {
			rest = events[i:]
		}
	}
	for _, ev := range rest {
		if m := ev.GetMessage(); m.GetSessionId() == id {
			require.EqualValues(t, len(bodies)+1, m.GetSeq())
			bodies = append(bodies, m.GetContent().GetText().GetBody())
		}
	}
	return bodies
}

// An asynchronous standby is promoted that had not received the last acknowledged writes: they are gone, their seqs are
// given out again, and every device is told so, starts afresh, and ends with what the new primary has.
func TestPromotionIsNoticed(t *testing.T) {
	t.Parallel()
	primary := testenv.OwnPostgres(t, nil)
	standby := startStandby(t, primary)
	either := eitherOf(t, primary, standby)
	key := "PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem")
	one, two := rig.StartOn(t, either, key), rig.StartOn(t, either, key)
	one.Token("carol", "c1")
	alice, bob := one.Online("alice", "a1"), two.Online("bob", "b1")
	away := two.Client("bob", "b2") // polls
	direct := alice.Send(t.Context(), "bob", "kept 1").GetSessionId()
	const kept, lost = 20, 10
	var bodies []string
	bodies = append(bodies, "kept 1")
	for n := 2; n <= kept; n++ {
		bodies = append(bodies, fmt.Sprint("kept ", n))
		bob.Sent(direct, bob.Send(t.Context(), direct, bodies[n-1]).GetSeq())
	}
	page, err := away.Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{Limit: 5})
	require.NoError(t, err)
	require.NotEmpty(t, page.GetNextPageToken())
	alice.WaitSeq(direct, kept)
	require.Eventually(t, func() bool {
		return ask[int](t, standby, "SELECT count(*) FROM msg") == kept &&
			ask[int](t, standby, "SELECT count(*) FROM user_to_device WHERE user_id IN ('alice', 'bob', 'carol')") == 4
	}, patience, 20*time.Millisecond)

	// The standby is cut off, and more is acknowledged that it never sees: also the first message of a session.
	detach(t, primary, standby)
	var gone *parleyv1.SendMessageRequest
	var before *parleyv1.SendMessageResponse
	for n := range lost {
		gone = rig.To(direct, fmt.Sprint("lost ", n))
		before, err = alice.Messages.SendMessage(t.Context(), gone)
		require.NoError(t, err)
		alice.Sent(direct, before.GetSeq())
	}
	require.EqualValues(t, kept+lost, before.GetSeq())
	bob.WaitSeq(direct, kept+lost)
	toCarol := rig.To("carol", "lost too")
	_, err = alice.Messages.SendMessage(t.Context(), toCarol)
	require.NoError(t, err)
	_, err = bob.Sync.Ack(t.Context(), &parleyv1.AckRequest{Acks: []*parleyv1.Cursor{{SessionId: direct, Seq: kept + lost}}})
	require.NoError(t, err)

	require.NoError(t, primary.Kill())
	require.True(t, ask[bool](t, standby, "SELECT pg_promote()"))
	for _, d := range []*rig.Device{alice, bob} {
		d.WaitEvent("the new epoch", func(ev *parleyv1.Event) bool {
			return ev.GetResync().GetReason() == parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED
		})
		require.Eventually(t, func() bool { return len(afterResync(t, d, direct)) == kept }, patience, 20*time.Millisecond)
	}

	// The client's outbox sends the lost ones again: they are new now, at the seqs of others that are gone.
	var again *parleyv1.SendMessageResponse
	require.Eventually(t, func() bool {
		again, err = alice.Messages.SendMessage(t.Context(), gone)
		return err == nil
	}, patience, 50*time.Millisecond, "%v", err)
	require.EqualValues(t, kept+1, again.GetSeq())
	require.NotEqual(t, before.GetEpoch(), again.GetEpoch())
	res := answer(t, alice.Messages.SendMessage, toCarol) // another connection to the dead primary may still be found out
	require.EqualValues(t, 1, res.GetSeq(), "the node must not believe that the session is there")
	answer(t, bob.Messages.SendMessage, rig.To(direct, "after"))
	bodies = append(bodies, gone.GetContent().GetText().GetBody(), "after")
	require.Eventually(t, func() bool { return len(afterResync(t, bob, direct)) >= kept+1 }, patience, 20*time.Millisecond)
	require.Equal(t, bodies[:kept+1], afterResync(t, bob, direct)[:kept+1])
	history := answer(t, alice.Messages.ListMessages, &parleyv1.ListMessagesRequest{SessionId: direct, Position: &parleyv1.ListMessagesRequest_AfterSeq{}})
	var stored []string
	for _, m := range history.GetMessages() {
		stored = append(stored, m.GetContent().GetText().GetBody())
	}
	require.Equal(t, bodies, stored)

	// Positions of the former life are answered as documented.
	_, err = bob.Sync.Ack(t.Context(), &parleyv1.AckRequest{Epoch: before.GetEpoch(), Acks: []*parleyv1.Cursor{{SessionId: direct, Seq: 1}}})
	require.Equal(t, connect.CodeAborted, connect.CodeOf(err))
	require.Equal(t, "EPOCH_CHANGED", reason(err))
	_, err = away.Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{Limit: 5, PageToken: page.GetNextPageToken()})
	require.Equal(t, "PAGE_TOKEN_INVALID", reason(err))
	require.LessOrEqual(t, ask[int](t, standby, "SELECT coalesce(max(acked_seq), 0) FROM device_cursor WHERE session_id = $1", direct), kept+2)
	for _, d := range []*rig.Device{alice, bob} {
		require.Equal(t, 1, resyncs(d), "each device is told once")
	}
	requireNoProblems(t, alice, bob)
	for _, s := range []*rig.Server{one, two} {
		require.Eventually(t, s.Ready, patience, 20*time.Millisecond)
	}
}

// detach ends the replication for good.
func detach(t *testing.T, primary, standby *dev.Postgres) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), standby.URL())
	require.NoError(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // nothing was left to send
	_, err = conn.Exec(t.Context(), "ALTER SYSTEM SET primary_conninfo = ''")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT pg_reload_conf()")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return ask[int](t, primary, "SELECT count(*) FROM pg_stat_replication") == 0 },
		patience, 20*time.Millisecond)
}

// A standby takes no connections of a node: it waits until there is a primary.
func TestStandbyIsNoDatabase(t *testing.T) {
	t.Parallel()
	primary := testenv.OwnPostgres(t, nil)
	standby := startStandby(t, primary)
	s := rig.StartOn(t, eitherOf(t, standby, primary)) // the standby is asked first
	s.Client("alice", "a1")
	require.Equal(t, 1, ask[int](t, primary, "SELECT count(*) FROM app_user"))
}

// Whatever a device says where it stands, the answer is the documented one, and the stream goes on from there.
func TestStrangeCursors(t *testing.T) {
	s := rig.Start(t)
	alice, bob, eve := s.Client("alice", "a1"), s.Client("bob", "b1"), s.Client("eve", "e1")
	group := alice.Group(t.Context(), "bob")
	alice.Send(t.Context(), group, "one")
	foreign := eve.Group(t.Context())
	resync := func(req *parleyv1.SubscribeRequest) *parleyv1.Resync {
		stream, err := bob.Sync.Subscribe(t.Context(), req)
		require.NoError(t, err)
		defer func() { require.NoError(t, stream.Close()) }()
		var said *parleyv1.Resync
		for seen := 0; stream.Receive(); {
			for _, ev := range stream.Msg().GetEvents() {
				if r := ev.GetResync(); r != nil {
					said = r
				}
				if ev.GetMessage() != nil {
					seen++
				}
				if ev.GetCaughtUp() != nil {
					require.Equal(t, 2, seen, "the whole session follows")
					return said
				}
			}
		}
		require.NoError(t, stream.Err())
		return nil
	}
	at := func(epoch, id string, seq int64) *parleyv1.SubscribeRequest {
		return &parleyv1.SubscribeRequest{Epoch: epoch, Cursors: []*parleyv1.Cursor{{SessionId: id, Seq: seq}}}
	}
	for _, c := range []struct {
		name    string
		req     *parleyv1.SubscribeRequest
		reason  parleyv1.ResyncReason
		session string
	}{
		{"another epoch", at("7-1-1", group, 2), parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED, ""},
		{"no epoch of this server's making", at("\x00'; --", group, 2), parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED, ""},
		{"beyond the head", at("", group, 3), parleyv1.ResyncReason_RESYNC_REASON_CURSOR_BEYOND_HEAD, group},
		{"far beyond", at("", group, 1<<62), parleyv1.ResyncReason_RESYNC_REASON_CURSOR_BEYOND_HEAD, group},
		{"foreign", at("", foreign, 1), parleyv1.ResyncReason_RESYNC_REASON_SESSION_UNAVAILABLE, foreign},
		{"of no session", at("", "00000000-0000-0000-0000-000000000000", 1), parleyv1.ResyncReason_RESYNC_REASON_SESSION_UNAVAILABLE, "00000000-0000-0000-0000-000000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := resync(c.req)
			require.NotNil(t, got)
			require.Equal(t, c.reason, got.GetReason())
			require.Equal(t, c.session, got.GetSessionId())
			require.NotEmpty(t, got.GetEpoch())
		})
	}
	for name, req := range map[string]*parleyv1.SubscribeRequest{
		"negative": at("", group, -1), "no UUID": at("", "x", 1), "a long epoch": at(string(make([]byte, 65)), group, 1),
	} {
		stream, err := bob.Sync.Subscribe(t.Context(), req)
		require.NoError(t, err)
		require.False(t, stream.Receive())
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(stream.Err()), name)
		require.Equal(t, "INVALID_FIELD", reason(stream.Err()), name)
		require.NoError(t, stream.Close())
	}
	_, err := bob.Sync.Ack(t.Context(), &parleyv1.AckRequest{Acks: []*parleyv1.Cursor{{SessionId: group, Seq: -1}}})
	require.Equal(t, "INVALID_FIELD", reason(err))
	page, err := bob.Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{Limit: 1})
	require.NoError(t, err)
	token := []byte(page.GetNextPageToken())
	require.NotEmpty(t, token)
	token[0]++
	_, err = bob.Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{PageToken: string(token)})
	require.Equal(t, "PAGE_TOKEN_INVALID", reason(err))
}

// A PostgreSQL that confirms what is not on disk is named in the log when a node starts.
func TestUnsafeCommitsAreToldAtStart(t *testing.T) {
	pg := testenv.PostgresURL(t)
	u, err := url.Parse(pg)
	require.NoError(t, err)
	q := u.Query()
	q.Set("synchronous_commit", "off")
	u.RawQuery = q.Encode()
	s := rig.StartOn(t, u.String())
	s.Stop()
	require.Contains(t, s.Log(), "synchronous_commit is off")
	s = rig.StartOn(t, pg)
	s.Stop()
	require.NotContains(t, s.Log(), "synchronous_commit")
}
