package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/e2e/rig"
)

// boundsWorld is a server whose tables a test fills up to near a bound: thousands of calls would not test more.
type boundsWorld struct {
	t   *testing.T
	s   *rig.Server
	sql *pgx.Conn
}

func (w *boundsWorld) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.sql.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// users makes n users name-1, name-2, ...
func (w *boundsWorld) users(name string, n int) {
	w.t.Helper()
	w.exec(`INSERT INTO app_user (user_id, created_at) SELECT $1::text || '-' || i, now() FROM generate_series(1, $2::int) i`, name, n)
}

// last calls three times where there is room for two: both pass, and the third is refused for the reason, each time that it
// is tried.
func (w *boundsWorld) last(reason parleyv1.ErrorReason, call func(n int) error) {
	w.t.Helper()
	require.NoError(w.t, call(1), "up to one below the bound")
	require.NoError(w.t, call(2), "up to the bound")
	for range 2 {
		err := call(3)
		require.Equal(w.t, connect.CodeResourceExhausted, connect.CodeOf(err), "past the bound: %v", err)
		require.Equal(w.t, reason, detailOf(err).GetReason())
	}
}

// Each bound of docs/limits.md that counts what is stored, at n-1, n and n+1, as seen from outside; with Redis and without,
// for none of them may depend on it.
func TestStoredBounds(t *testing.T) {
	for name, env := range map[string][]string{"Redis": nil, "without Redis": {"PARLEY_REDIS_URL="}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &boundsWorld{t: t, s: rig.Start(t, append(append([]string{}, hookEnv...), env...)...)}
			var err error
			w.sql, err = pgx.Connect(t.Context(), w.s.PostgresURL)
			require.NoError(t, err)
			t.Cleanup(func() { _ = w.sql.Close(context.Background()) })
			w.users("u", 10_000)
			t.Run("members", w.members)
			t.Run("sessions", w.sessions)
			t.Run("relations", w.relations)
			t.Run("webhooks", w.webhooks)
			t.Run("streams", w.streams)
			t.Run("requests", w.requests)
		})
	}
}

func (w *boundsWorld) members(t *testing.T) {
	const most = 10_000
	ctx := t.Context()
	alice := w.s.Client("alice", "a1")
	id := alice.Group(ctx, "u-1")
	w.exec(`INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT 'u-' || i, $1, 1, 1, 1 FROM generate_series(2, $2::int) i`, id, most-3)
	w.exec(`UPDATE session SET member_count = $2 WHERE session_id = $1`, id, most-2)
	w.last(parleyv1.ErrorReason_ERROR_REASON_GROUP_FULL, func(n int) error {
		_, err := alice.Sessions.AddMembers(ctx, &parleyv1.AddMembersRequest{SessionId: id, UserIds: []string{fmt.Sprint("u-", most-3+n)}})
		return err
	})
	got, err := alice.Sessions.GetSession(ctx, &parleyv1.GetSessionRequest{SessionId: id})
	require.NoError(t, err)
	require.EqualValues(t, most, got.GetSession().GetMemberCount(), "who was refused is not in it")
	_, err = alice.Sessions.RemoveMember(ctx, &parleyv1.RemoveMemberRequest{SessionId: id, UserId: "u-1"})
	require.NoError(t, err)
	_, err = alice.Sessions.AddMembers(ctx, &parleyv1.AddMembersRequest{SessionId: id, UserIds: []string{fmt.Sprint("u-", most)}})
	require.NoError(t, err)
}

func (w *boundsWorld) sessions(t *testing.T) {
	ctx := t.Context()
	bob, carol := w.s.Client("bob", "b1"), w.s.Client("carol", "c1")
	first := bob.Group(ctx)
	w.exec(`INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT 'bob', gen_random_uuid(), 1, 1, 1 FROM generate_series(1, 9997)`)
	w.last(parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS, func(int) error {
		_, err := bob.Sessions.CreateSession(ctx, &parleyv1.CreateSessionRequest{Group: &parleyv1.Group{Title: "g"}})
		return err
	})
	_, err := carol.Sessions.CreateSession(ctx, &parleyv1.CreateSessionRequest{Group: &parleyv1.Group{Title: "g"}, MemberIds: []string{"bob"}})
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS, detailOf(err).GetReason(), "%v", err)
	bob.Send(ctx, first, "what there is goes on")

	// Direct ones count, for both. Who writes first to somebody full is told what all are told who cannot be reached.
	begin := func(from *rig.Client, to string) *parleyv1.ErrorDetail {
		_, err := from.Messages.SendMessage(ctx, rig.To(to, "x"))
		return detailOf(err)
	}
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS, begin(bob, "carol").GetReason())
	full := begin(carol, "bob")
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_UNAVAILABLE, full.GetReason())
	require.Equal(t, begin(carol, "nobody at all").GetMetadata(), full.GetMetadata())
	_, err = bob.Sessions.LeaveSession(ctx, &parleyv1.LeaveSessionRequest{SessionId: first})
	require.NoError(t, err)
	carol.Send(ctx, "bob", "a place became free")
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS, begin(bob, "u-1").GetReason())
	bob.Send(ctx, "carol", "what there is goes on")
	w.exec(`DELETE FROM user_to_session WHERE ctid IN (SELECT m.ctid FROM user_to_session m LEFT JOIN session s USING (session_id)
		WHERE m.user_id = 'bob' AND s.session_id IS NULL LIMIT 2)`)
	w.users("peer", 3)
	w.last(parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_SESSIONS, func(n int) error {
		_, err := bob.Messages.SendMessage(ctx, rig.To(fmt.Sprint("peer-", n), "x"))
		return err
	})
}

func (w *boundsWorld) relations(t *testing.T) {
	ctx := t.Context()
	dave := w.s.Client("dave", "d1")
	w.exec(`INSERT INTO user_to_user (user_id, peer_id, kind, updated_at) SELECT 'dave', 'u-' || i, 1, now() FROM generate_series(1, 9998) i`)
	w.users("tie", 3)
	w.last(parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_RELATIONS, func(n int) error {
		_, err := dave.Relations.RequestFriend(ctx, &parleyv1.RequestFriendRequest{UserId: fmt.Sprint("tie-", n)})
		return err
	})
	erin := w.s.Client("erin", "e1")
	w.exec(`INSERT INTO user_to_user (user_id, peer_id, kind, updated_at) SELECT 'erin', 'u-' || i, 3, now() FROM generate_series(1, 9998) i`)
	w.last(parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_RELATIONS, func(n int) error {
		_, err := erin.Relations.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: fmt.Sprint("tie-", n)})
		return err
	})
}

func (w *boundsWorld) webhooks(t *testing.T) {
	create := func(int) error {
		_, err := w.s.Admin().CreateWebhook(t.Context(), &parleyv1.CreateWebhookRequest{Url: "http://127.0.0.1:9/", EventTypes: []parleyv1.WebhookEventType{hookRelations}})
		return err
	}
	for range 18 {
		require.NoError(t, create(0))
	}
	w.last(parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_WEBHOOKS, create)
	w.exec(`DELETE FROM webhook`) // nothing of the other tests is to be told
}

// streams: all devices that a user may have are online at once, each by one stream. Another one needs another device, and a
// second one of the same device ends the first.
func (w *boundsWorld) streams(t *testing.T) {
	const most = 64
	frank := w.s.Client("frank", "f1")
	id := frank.Group(t.Context())
	var devices []*rig.Device
	for n := 2; n <= most; n++ {
		devices = append(devices, w.s.Online("frank", fmt.Sprint("f", n)))
	}
	sent := frank.Send(t.Context(), id, "to all of them")
	for _, d := range devices {
		d.WaitSeq(id, sent.GetSeq())
		require.Empty(t, d.Problems())
	}
	_, err := w.s.Admin().CreateToken(t.Context(), &parleyv1.CreateTokenRequest{UserId: "frank", DeviceId: "f65"})
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_TOO_MANY_DEVICES, detailOf(err).GetReason(), "%v", err)

	again := w.s.ClientWith("frank", "f2", devices[0].Token)
	stream, err := again.Sync.Subscribe(t.Context(), &parleyv1.SubscribeRequest{})
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	require.True(t, stream.Receive())
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_STREAM_DISPLACED, detailOf(devices[0].Ended()).GetReason())
	for _, d := range devices[1:] {
		require.True(t, d.Live())
	}
}

// requests: what bounds a request's lists.
func (w *boundsWorld) requests(t *testing.T) {
	ctx := t.Context()
	grace := w.s.Client("grace", "g1")
	names := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint("u-", i+1))
		}
		return out
	}
	for what, c := range map[string]struct {
		bound int
		call  func(n int) error
	}{
		"cursors of Subscribe": {1000, func(n int) error {
			req := &parleyv1.SubscribeRequest{}
			for range n {
				req.Cursors = append(req.Cursors, &parleyv1.Cursor{SessionId: uuid.NewString()})
			}
			streaming, stop := context.WithTimeout(ctx, patience)
			defer stop()
			stream, err := grace.Sync.Subscribe(streaming, req)
			require.NoError(t, err)
			defer func() { _ = stream.Close() }()
			if stream.Receive() {
				return nil
			}
			return stream.Err()
		}},
		"presences": {200, func(n int) error {
			_, err := parleyv1connect.NewPresenceServiceClient(http.DefaultClient, w.s.URL, rig.Bearer(grace.Token)).GetPresence(ctx, &parleyv1.GetPresenceRequest{UserIds: names(n)})
			return err
		}},
		"members at once": {1000, func(n int) error {
			_, err := grace.Sessions.CreateSession(ctx, &parleyv1.CreateSessionRequest{Group: &parleyv1.Group{Title: "g"}, MemberIds: names(n)})
			return err
		}},
		"reads at once": {500, func(n int) error {
			seqs := make([]int64, n)
			for i := range seqs {
				seqs[i] = int64(i + 1)
			}
			_, err := grace.States.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: uuid.NewString(), Seqs: seqs})
			if detailOf(err).GetReason() == parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE {
				return nil // few enough to be looked at
			}
			return err
		}},
	} {
		for _, n := range []int{c.bound - 1, c.bound, c.bound + 1} {
			err := c.call(n)
			if n <= c.bound {
				require.NoError(t, err, "%s: %d", what, n)
				continue
			}
			require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_INVALID_FIELD, detailOf(err).GetReason(), "%s: %d: %v", what, n, err)
		}
	}
}

// A token of exactly 4 KiB is taken, one byte more is none. (More than the bound of all headers is HTTP's to refuse.)
func TestTokenSize(t *testing.T) {
	t.Parallel()
	ed := newEdForger(t, "ed-1")
	s := rig.Start(t, "PARLEY_JWKS_URL="+newKeyServer(t, ed).URL, "PARLEY_TOKEN_ISSUER=app")
	s.Token("alice", "phone")
	sized := func(size int) string {
		for inHeader := range 4 { // base64 has lengths that no claims alone come to
			for inClaims := size/2 - 300; inClaims < size; inClaims++ {
				token := ed.forge(t, ed.header().with("pad", strings.Repeat("x", inHeader)), claimsOf("app").with("pad", strings.Repeat("x", inClaims)))
				if len(token) == size {
					return token
				}
				if len(token) > size {
					break
				}
			}
		}
		t.Fatalf("no token of %d bytes", size)
		return ""
	}
	for size, want := range map[int]int{4095: http.StatusOK, 4096: http.StatusOK, 4097: http.StatusUnauthorized, 15_000: http.StatusUnauthorized} {
		status, body := present(t, s.URL, sized(size))
		require.Equal(t, want, status, "%d bytes: %s", size, body)
		if want != http.StatusOK {
			require.Contains(t, body, "TOKEN_INVALID")
		}
	}
}
