package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// app is the app's own connection to the database.
type app struct {
	t  *testing.T
	db *pgxpool.Pool
}

func newApp(t *testing.T, s *rig.Server) app {
	db, err := pgxpool.New(t.Context(), s.PostgresURL)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return app{t, db}
}

const sendText = "SELECT seq FROM parley_send_text($1, $2, $3, $4, $5, $6, $7)"

// text sends a text by SQL and returns its seq.
func (a app) text(session, user, device, id, body string) (seq int64, err error) {
	err = a.db.QueryRow(a.t.Context(), sendText, session, user, device, id, body, 0, nil).Scan(&seq)
	return seq, err
}

// content sends any content by SQL.
func (a app) content(req *parleyv1.SendMessageRequest, user, device string, content []byte) (seq int64, err error) {
	err = a.db.QueryRow(a.t.Context(), "SELECT seq FROM parley_send($1, $2, $3, $4, $5, $6, $7)", req.GetSessionId(), user, device,
		req.GetMessageId(), content, req.GetReplyToSeq(), req.GetMentions()).Scan(&seq)
	return seq, err
}

// sqlReason is the reason of a refusal by SQL, which is its message.
func sqlReason(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && strings.HasPrefix(pg.Code, "PY") {
		return pg.Message
	}
	return fmt.Sprint(err)
}

// What an app sends in its own transaction is delivered when that commits, to all devices, and not at all when it does not.
func TestSQLSendIsDelivered(t *testing.T) {
	s := rig.Start(t)
	alice, bob := s.Online("alice", "a1"), s.Online("bob", "b1")
	group := alice.Group(t.Context(), "bob")
	a := newApp(t, s)
	tx, err := a.db.Begin(t.Context())
	require.NoError(t, err)
	var seq int64
	require.NoError(t, tx.QueryRow(t.Context(), sendText, group, "alice", "a1", uuid.NewString(), "order 1 was paid", 1, []string{"bob"}).Scan(&seq))
	require.EqualValues(t, 2, seq)
	require.NoError(t, tx.Rollback(t.Context()))
	tx, err = a.db.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, tx.QueryRow(t.Context(), sendText, group, "alice", "", uuid.NewString(), "order 2 was paid", 1, []string{"bob"}).Scan(&seq))
	require.EqualValues(t, 2, seq)
	require.NoError(t, tx.QueryRow(t.Context(), sendText, group, "alice", "a1", uuid.NewString(), "grüße 😀", 0, nil).Scan(&seq))
	require.EqualValues(t, 3, seq)
	require.NoError(t, tx.Commit(t.Context()))
	for _, d := range []*rig.Device{alice, bob} { // also the device that it is said to come from: no answer took its place
		d.WaitSeq(group, 3)
		shown := d.Shown(group)
		m := shown[len(shown)-2]
		require.Equal(t, "order 2 was paid", m.GetContent().GetText().GetBody())
		require.Equal(t, []string{"bob"}, m.GetMentions())
		require.EqualValues(t, 1, m.GetReplyToSeq())
		require.Equal(t, "alice", m.GetSenderId())
		require.Empty(t, m.GetSenderDeviceId())
		require.NotNil(t, m.GetCreatedAt())
		require.Equal(t, "grüße 😀", shown[len(shown)-1].GetContent().GetText().GetBody())
	}
	unread := func(c *rig.Client) int64 {
		res, err := c.States.GetUnread(t.Context(), &parleyv1.GetUnreadRequest{})
		require.NoError(t, err)
		return res.GetTotal()
	}
	require.EqualValues(t, 0, unread(alice.Client), "sending means having read up to there")
	require.EqualValues(t, 2, unread(bob.Client))
	requireNoProblems(t, alice, bob)
}

// The same id and body is one message, whichever way it is sent and however often; with another body it is refused.
func TestSQLSendIsIdempotent(t *testing.T) {
	s := rig.Start(t)
	alice := s.Client("alice", "a1")
	group := alice.Group(t.Context())
	a := newApp(t, s)
	contents := []*parleyv1.Content{
		{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: strings.Repeat("ü", 8192)}}},
		{Kind: &parleyv1.Content_Attachment{Attachment: &parleyv1.Attachment{Url: "https://files.example/a?b=1#c", MediaType: "image/png",
			Name: "a.png", SizeBytes: 1 << 62, Caption: "a", Width: 1, Height: 1<<31 - 1, DurationMs: 128}}},
		{Kind: &parleyv1.Content_Attachment{Attachment: &parleyv1.Attachment{Url: "urn:x", MediaType: "a/b"}}},
		{Kind: &parleyv1.Content_Custom{Custom: &parleyv1.Custom{TypeUrl: "shop.example/order", Payload: []byte{0, 255, 1}}}},
		{Kind: &parleyv1.Content_Custom{Custom: &parleyv1.Custom{TypeUrl: "x"}}},
	}
	for i, content := range contents {
		req := &parleyv1.SendMessageRequest{Target: &parleyv1.SendMessageRequest_SessionId{SessionId: group}, MessageId: uuid.NewString(),
			Content: content, ReplyToSeq: int64(i % 2), Mentions: []string{"alice", strings.Repeat("b", 64)}[:i%3]}
		encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(content)
		require.NoError(t, err)
		bySQL := func() int64 {
			seq, err := a.content(req, "alice", "a1", encoded)
			require.NoError(t, err)
			return seq
		}
		byAPI := func() int64 {
			res, err := alice.Messages.SendMessage(t.Context(), req)
			require.NoError(t, err)
			return res.GetSeq()
		}
		want := int64(i + 2)
		if i%2 == 0 {
			require.Equal(t, want, bySQL())
		}
		require.Equal(t, want, byAPI())
		require.Equal(t, want, bySQL())
		require.Equal(t, want, byAPI())
		got, err := alice.Messages.GetMessage(t.Context(), &parleyv1.GetMessageRequest{SessionId: group, Seq: want})
		require.NoError(t, err)
		require.True(t, proto.Equal(content, got.GetMessage().GetContent()))
		require.EqualValues(t, content.ProtoReflect().WhichOneof(content.ProtoReflect().Descriptor().Oneofs().Get(0)).Number(), got.GetMessage().GetType())
		_, err = a.text(group, "alice", "a1", req.GetMessageId(), "another body")
		require.Equal(t, "MESSAGE_ID_REUSED", sqlReason(err))
	}
}

// Whom SendMessage refuses, SQL refuses with the same reason.
func TestSQLSendRefusesLikeTheAPI(t *testing.T) {
	s := rig.Start(t)
	alice, bob, carol, eve := s.Client("alice", "a1"), s.Client("bob", "b1"), s.Client("carol", "c1"), s.Client("eve", "e1")
	dave := s.Client("dave", "d1")
	a := newApp(t, s)
	group := alice.Group(t.Context(), "bob", "carol")
	_, err := alice.Sessions.RemoveMember(t.Context(), &parleyv1.RemoveMemberRequest{SessionId: group, UserId: "carol"})
	require.NoError(t, err)
	quiet := alice.Group(t.Context(), "bob")
	_, err = a.db.Exec(t.Context(), "UPDATE user_to_session SET is_muted = true WHERE session_id = $1 AND user_id = 'bob'", quiet)
	require.NoError(t, err)
	upper := alice.Group(t.Context(), "bob")
	_, err = a.db.Exec(t.Context(), "UPDATE session SET send_role = 2 WHERE session_id = $1", upper)
	require.NoError(t, err)
	direct := alice.Send(t.Context(), "dave", "hi").GetSessionId()
	_, err = dave.Relations.BlockUser(t.Context(), &parleyv1.BlockUserRequest{UserId: "alice"})
	require.NoError(t, err)
	_, err = bob.Devices.RegisterDevice(t.Context(), &parleyv1.RegisterDeviceRequest{})
	require.NoError(t, err)

	reply := rig.To(group, "x")
	reply.ReplyToSeq = 99
	for _, c := range []struct {
		name string
		by   *rig.Client
		req  *parleyv1.SendMessageRequest
		want string
	}{
		{"no such session", alice, rig.To(uuid.NewString(), "x"), "SESSION_UNAVAILABLE"},
		{"never a member", eve, rig.To(group, "x"), "SESSION_UNAVAILABLE"},
		{"removed", carol, rig.To(group, "x"), "SESSION_UNAVAILABLE"},
		{"muted", bob, rig.To(quiet, "x"), "MUTED"},
		{"role too low", bob, rig.To(upper, "x"), "ROLE_TOO_LOW"},
		{"blocked", alice, rig.To(direct, "x"), "RECIPIENT_UNAVAILABLE"},
		{"blocked by oneself", dave, rig.To(direct, "x"), "RECIPIENT_BLOCKED_BY_YOU"},
		{"reply to nothing", alice, reply, "MESSAGE_UNAVAILABLE"},
		{"empty", alice, rig.To(group, ""), "INVALID_FIELD"},
		{"too long", alice, rig.To(group, strings.Repeat("x", 16385)), "INVALID_FIELD"},
		{"fine", bob, rig.To(group, "x"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var bySQL int64
			err := a.db.QueryRow(t.Context(), sendText, c.req.GetSessionId(), c.by.User, c.by.Device, c.req.GetMessageId(),
				c.req.GetContent().GetText().GetBody(), c.req.GetReplyToSeq(), nil).Scan(&bySQL)
			_, apiErr := c.by.Messages.SendMessage(t.Context(), c.req)
			if c.want == "" {
				require.NoError(t, err)
				require.NoError(t, apiErr)
				return
			}
			require.Equal(t, c.want, sqlReason(err))
			require.Equal(t, c.want, reason(apiErr))
		})
	}
	_, err = a.text(group, "bob", "no such device", uuid.NewString(), "x")
	require.Equal(t, "DEVICE_REVOKED", sqlReason(err))
	_, err = a.db.Exec(t.Context(), "UPDATE app_user SET deactivated_at = now() WHERE user_id = 'bob'")
	require.NoError(t, err)
	_, err = a.text(group, "bob", "", uuid.NewString(), "x")
	require.Equal(t, "USER_DEACTIVATED", sqlReason(err))

	// Contents that no client of Parley could have sent.
	text := &parleyv1.Text{Body: "x"}
	good, err := proto.Marshal(&parleyv1.Content{Kind: &parleyv1.Content_Text{Text: text}})
	require.NoError(t, err)
	event, err := proto.Marshal(&parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: 1}}})
	require.NoError(t, err)
	unreachable, err := proto.Marshal(&parleyv1.Content{Kind: &parleyv1.Content_Attachment{Attachment: &parleyv1.Attachment{Url: "nowhere", MediaType: "a/b"}}})
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"nothing": {}, "a log event": event, "twice": append(append([]byte{}, good...), good...), "cut off": good[:len(good)-1],
		"too much": append(append([]byte{}, good...), 0), "no UTF-8": {0x0a, 3, 0x0a, 1, 0xff}, "an empty text": {0x0a, 0},
		"an unknown field": {0x0a, 5, 0x0a, 1, 'x', 0x10, 1}, "a long varint": {0x0a, 0x83, 0, 0x0a, 1, 'x'},
		"endless": {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "no URL": unreachable, "noise": {0xff, 1, 2},
	} {
		_, err := a.content(rig.To(group, ""), "alice", "a1", content)
		require.Equal(t, "INVALID_FIELD", sqlReason(err), name)
	}
	_, err = a.content(rig.To(group, ""), "alice", "a1", good)
	require.NoError(t, err)

	tx, err := a.db.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), sendText, group, "alice", "a1", uuid.NewString(), "x", 0, nil)
	require.ErrorContains(t, err, "READ COMMITTED")
	require.NoError(t, tx.Rollback(t.Context()))
}

// Only whom the owner lets may send by SQL, and those need no right on the tables.
func TestSQLSendNeedsARight(t *testing.T) {
	s := rig.Start(t)
	alice := s.Client("alice", "a1")
	group := alice.Group(t.Context())
	a := newApp(t, s)
	role := "app_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err := a.db.Exec(t.Context(), "CREATE ROLE "+role)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = a.db.Exec(t.Context(), "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	u, err := url.Parse(s.PostgresURL)
	require.NoError(t, err)
	q := u.Query()
	q.Set("role", role)
	u.RawQuery = q.Encode()
	theirs, err := pgx.Connect(t.Context(), u.String())
	require.NoError(t, err)
	defer theirs.Close(t.Context()) //nolint:errcheck // nothing was left to send
	_, err = theirs.Exec(t.Context(), sendText, group, "alice", "a1", uuid.NewString(), "x", 0, nil)
	require.ErrorContains(t, err, "permission denied")
	_, err = a.db.Exec(t.Context(), "GRANT EXECUTE ON FUNCTION parley_send_text TO "+role)
	require.NoError(t, err)
	_, err = theirs.Exec(t.Context(), "CREATE TEMP TABLE session (session_id uuid)") // must not come before the real one
	require.NoError(t, err)
	_, err = theirs.Exec(t.Context(), sendText, group, "alice", "a1", uuid.NewString(), "x", 0, nil)
	require.NoError(t, err)
	_, err = theirs.Exec(t.Context(), "SELECT FROM msg")
	require.ErrorContains(t, err, "permission denied")
}

// SQL and API send to the same sessions at the same time: every log is without holes and every stream complete.
func TestSQLSendBesideTheCommitter(t *testing.T) {
	s := rig.Start(t)
	a := newApp(t, s)
	alice, bob := s.Online("alice", "a1"), s.Online("bob", "b1")
	groups := []string{alice.Group(t.Context(), "bob"), alice.Group(t.Context(), "bob")}
	const each = 60
	var all sync.WaitGroup
	var mu sync.Mutex
	seqs := map[string]map[int64]bool{groups[0]: {1: true}, groups[1]: {1: true}}
	took := func(group string, seq int64) {
		mu.Lock()
		defer mu.Unlock()
		require.False(t, seqs[group][seq], "seq %d was given out twice", seq)
		seqs[group][seq] = true
	}
	for _, group := range groups {
		for range 3 {
			all.Go(func() {
				for n := range each {
					res, err := alice.Messages.SendMessage(t.Context(), rig.To(group, fmt.Sprint(n)))
					if err == nil {
						alice.Sent(group, res.GetSeq())
						took(group, res.GetSeq())
					}
				}
			})
			all.Go(func() {
				for n := range each {
					tx, err := a.db.Begin(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					var seq int64
					err = tx.QueryRow(t.Context(), sendText, group, "bob", "", uuid.NewString(), fmt.Sprint(n), 0, nil).Scan(&seq)
					if err != nil || n%5 == 4 { // every fifth is taken back
						err = errors.Join(err, tx.Rollback(t.Context()))
					} else if err = tx.Commit(t.Context()); err == nil {
						took(group, seq)
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	for _, group := range groups {
		want := int64(1 + 3*each + 3*each*4/5)
		require.Len(t, seqs[group], int(want))
		for seq := int64(1); seq <= want; seq++ {
			require.True(t, seqs[group][seq], "a hole at %d", seq)
		}
		alice.WaitSeq(group, want)
		bob.WaitSeq(group, want)
	}
	requireNoProblems(t, alice, bob)
}
