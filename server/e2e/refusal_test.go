package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// fingerprint is what a refused call must not change.
func fingerprint(t *testing.T, url string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var out string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT concat_ws(' ',
		(SELECT count(*) FROM app_user), (SELECT count(*) FROM user_to_user), (SELECT count(*) FROM user_to_device),
		(SELECT string_agg(session_id::text || last_seq || member_count || title, ',' ORDER BY session_id) FROM session),
		(SELECT string_agg(user_id || session_id::text || role || read_seq || deleted_to_seq || coalesce(left_seq, 0), ',' ORDER BY user_id, session_id) FROM user_to_session),
		(SELECT count(*) FROM msg), (SELECT count(*) FROM msg_state), (SELECT count(*) FROM msg WHERE is_delete))`).Scan(&out))
	return out
}

// Bad input gets an exact code and reason over every protocol, and changes nothing.
func TestBadInput(t *testing.T) {
	s := rig.Start(t)
	admin := s.Client("alice", "a0")
	s.Token("bob", "b1")
	group := admin.Group(t.Context(), "bob")
	s.Client("carol", "c1")
	secret := s.Client("carol", "c2").Group(t.Context())
	first := rig.To(group, "first")
	_, err := admin.Messages.SendMessage(t.Context(), first)
	require.NoError(t, err)
	_, err = s.Client("dave", "d1").Relations.BlockUser(t.Context(), &parleyv1.BlockUserRequest{UserId: "alice"})
	require.NoError(t, err)
	unknown := uuid.NewString()
	reused := rig.To(group, "another body")
	reused.MessageId = first.GetMessageId()
	badID := rig.To(group, "x")
	badID.MessageId = "not-a-uuid"
	long := rig.To(group, strings.Repeat("x", 16385))
	event := rig.To(group, "x")
	event.Content = &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: 1}}}
	reply := rig.To(group, "x")
	reply.ReplyToSeq = 99

	type call struct {
		name   string
		do     func(c *rig.Client) error
		code   connect.Code
		reason string
	}
	send := func(req *parleyv1.SendMessageRequest) func(*rig.Client) error {
		return func(c *rig.Client) error { _, err := c.Messages.SendMessage(t.Context(), req); return err }
	}
	calls := []call{
		{"unknown session", send(rig.To(unknown, "x")), connect.CodePermissionDenied, "SESSION_UNAVAILABLE"},
		{"not a member", send(rig.To(secret, "x")), connect.CodePermissionDenied, "SESSION_UNAVAILABLE"},
		{"unknown peer", send(rig.To("nobody", "x")), connect.CodePermissionDenied, "RECIPIENT_UNAVAILABLE"},
		{"blocked", send(rig.To("dave", "x")), connect.CodePermissionDenied, "RECIPIENT_UNAVAILABLE"},
		{"oneself", send(rig.To("alice", "x")), connect.CodeInvalidArgument, "SELF_TARGET"},
		{"too long", send(long), connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"empty text", send(rig.To(group, "")), connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"no content", send(&parleyv1.SendMessageRequest{MessageId: unknown, Target: first.Target}), connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"no target", send(&parleyv1.SendMessageRequest{MessageId: unknown, Content: first.Content}), connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"a log event", send(event), connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"bad UUID", send(badID), connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"reused id", send(reused), connect.CodeAlreadyExists, "MESSAGE_ID_REUSED"},
		{"reply to what is not there", send(reply), connect.CodeNotFound, "MESSAGE_UNAVAILABLE"},
		{"too many at once", func(c *rig.Client) error {
			req := &parleyv1.SendMessagesRequest{}
			for range 257 {
				req.Messages = append(req.Messages, rig.To(group, "x"))
			}
			_, err := c.Messages.SendMessages(t.Context(), req)
			return err
		}, connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"oversized request", func(c *rig.Client) error {
			req := &parleyv1.SendMessagesRequest{}
			for range 8 {
				req.Messages = append(req.Messages, rig.To(group, strings.Repeat("x", 16000)))
			}
			_, err := c.Messages.SendMessages(t.Context(), req)
			return err
		}, connect.CodeResourceExhausted, "REQUEST_TOO_LARGE"},
		{"oversized page", func(c *rig.Client) error {
			_, err := c.Messages.ListMessages(t.Context(), &parleyv1.ListMessagesRequest{SessionId: group, Limit: 501})
			return err
		}, connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"history of a foreign session", func(c *rig.Client) error {
			_, err := c.Messages.ListMessages(t.Context(), &parleyv1.ListMessagesRequest{SessionId: secret})
			return err
		}, connect.CodePermissionDenied, "SESSION_UNAVAILABLE"},
		{"message that is not there", func(c *rig.Client) error {
			_, err := c.Messages.GetMessage(t.Context(), &parleyv1.GetMessageRequest{SessionId: group, Seq: 99})
			return err
		}, connect.CodeNotFound, "MESSAGE_UNAVAILABLE"},
		{"ack beyond head", func(c *rig.Client) error {
			_, err := c.Sync.Ack(t.Context(), &parleyv1.AckRequest{Acks: []*parleyv1.Cursor{{SessionId: group, Seq: 99}}})
			return err
		}, connect.CodeOutOfRange, "CURSOR_BEYOND_HEAD"},
		{"ack of a foreign session", func(c *rig.Client) error {
			_, err := c.Sync.Ack(t.Context(), &parleyv1.AckRequest{Acks: []*parleyv1.Cursor{{SessionId: secret, Seq: 1}}})
			return err
		}, connect.CodePermissionDenied, "SESSION_UNAVAILABLE"},
		{"ack of another epoch", func(c *rig.Client) error {
			_, err := c.Sync.Ack(t.Context(), &parleyv1.AckRequest{Epoch: "other", Acks: []*parleyv1.Cursor{{SessionId: group, Seq: 1}}})
			return err
		}, connect.CodeAborted, "EPOCH_CHANGED"},
		{"read beyond head", func(c *rig.Client) error {
			_, err := c.States.MarkRead(t.Context(), &parleyv1.MarkReadRequest{SessionId: group, UpToSeq: 99})
			return err
		}, connect.CodeOutOfRange, "CURSOR_BEYOND_HEAD"},
		{"read of both kinds", func(c *rig.Client) error {
			_, err := c.States.MarkRead(t.Context(), &parleyv1.MarkReadRequest{SessionId: group, UpToSeq: 1, Seqs: []int64{1}})
			return err
		}, connect.CodeInvalidArgument, "INVALID_FIELD"},
		{"page token of nobody", func(c *rig.Client) error {
			_, err := c.Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{PageToken: "AAAA"})
			return err
		}, connect.CodeInvalidArgument, "PAGE_TOKEN_INVALID"},
		{"group with an unknown user", func(c *rig.Client) error {
			_, err := c.Sessions.CreateSession(t.Context(), &parleyv1.CreateSessionRequest{Group: &parleyv1.Group{}, MemberIds: []string{"bob", "nobody"}})
			return err
		}, connect.CodeNotFound, "USER_UNAVAILABLE"},
		{"admin call as a user", func(c *rig.Client) error {
			_, err := c.Admin().GetStats(t.Context(), &parleyv1.GetStatsRequest{})
			return err
		}, connect.CodePermissionDenied, "NOT_ALLOWED"},
		{"recall of a foreign session's message", func(c *rig.Client) error {
			_, err := c.Messages.RecallMessage(t.Context(), &parleyv1.RecallMessageRequest{SessionId: secret, Seq: 1})
			return err
		}, connect.CodePermissionDenied, "SESSION_UNAVAILABLE"},
		{"recall of a log event", func(c *rig.Client) error {
			_, err := c.Messages.RecallMessage(t.Context(), &parleyv1.RecallMessageRequest{SessionId: group, Seq: 1})
			return err
		}, connect.CodePermissionDenied, "NOT_RECALLABLE"},
		{"unknown device", func(c *rig.Client) error {
			_, err := c.Devices.RevokeDevice(t.Context(), &parleyv1.RevokeDeviceRequest{DeviceId: "nothing"})
			return err
		}, connect.CodeNotFound, "DEVICE_UNAVAILABLE"},
		{"an answer to no request", func(c *rig.Client) error {
			_, err := c.Relations.RespondFriendRequest(t.Context(), &parleyv1.RespondFriendRequestRequest{UserId: "bob", Accept: true})
			return err
		}, connect.CodeFailedPrecondition, "RELATION_UNAVAILABLE"},
	}
	before := fingerprint(t, s.PostgresURL)
	for name, opts := range map[string][]connect.ClientOption{
		"proto": nil, "json": {connect.WithProtoJSON()}, "grpc": {rig.H2, connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()},
	} {
		c := s.ClientWith("alice", "a0", admin.Token, opts...)
		for _, k := range calls {
			err := k.do(c)
			require.Equal(t, k.code, connect.CodeOf(err), "%s over %s: %v", k.name, name, err)
			require.Equal(t, k.reason, reason(err), "%s over %s", k.name, name)
			require.NotContains(t, strings.ToLower(err.Error()), "sqlstate")
		}
	}
	require.Equal(t, before, fingerprint(t, s.PostgresURL))
	badHTTP(t, s, admin.Token, group)
	require.Equal(t, before, fingerprint(t, s.PostgresURL))
}

// badHTTP holds what no generated client would send.
func badHTTP(t *testing.T, s *rig.Server, token, group string) {
	const path = "/parley.v1.MessageService/SendMessage"
	cases := []struct {
		name, path, token, contentType string
		body                           []byte
		status                         int
		reason                         string
	}{
		{"no token", path, "", "application/json", []byte(`{}`), 401, "TOKEN_MISSING"},
		{"bad token", path, "Bearer nonsense", "application/json", []byte(`{}`), 401, "TOKEN_INVALID"},
		{"not a bearer", path, "Basic YTpi", "application/json", []byte(`{}`), 401, ""},
		{"bad JSON", path, "Bearer " + token, "application/json", []byte(`{"sessionId":`), 400, "INVALID_FIELD"},
		{"invalid UTF-8 in JSON", path, "Bearer " + token, "application/json",
			[]byte("{\"sessionId\":\"" + group + "\",\"messageId\":\"" + uuid.NewString() + "\",\"content\":{\"text\":{\"body\":\"\xff\xfe\"}}}"), 400, "INVALID_FIELD"},
		{"invalid UTF-8 in proto", path, "Bearer " + token, "application/proto", []byte{0x12, 0x02, 0xff, 0xfe}, 400, "INVALID_FIELD"},
		{"REST, bad UUID", "/v1/sessions/nonsense/messages", "Bearer " + token, "application/json",
			[]byte(`{"messageId":"` + uuid.NewString() + `","content":{"text":{"body":"x"}}}`), 400, "INVALID_FIELD"},
		{"REST, foreign session", "/v1/sessions/" + uuid.NewString() + "/messages", "Bearer " + token, "application/json",
			[]byte(`{"messageId":"` + uuid.NewString() + `","content":{"text":{"body":"x"}}}`), 403, "SESSION_UNAVAILABLE"},
		{"no such path", "/v1/nothing", "Bearer " + token, "application/json", []byte(`{}`), 404, ""},
	}
	for _, c := range cases {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+c.path, bytes.NewReader(c.body))
		require.NoError(t, err)
		if c.token != "" {
			req.Header.Set("Authorization", c.token)
		}
		req.Header.Set("Content-Type", c.contentType)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		raw, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		require.NoError(t, err)
		require.Equal(t, c.status, res.StatusCode, "%s: %s", c.name, raw)
		require.True(t, json.Valid(raw), "%s: %s", c.name, raw)
		require.Contains(t, string(raw), c.reason, c.name)
	}
}

// A10 on one node: a revoked or expired device, or a deactivated user, has no live stream 2 s later, and no call gets in.
func TestRevocationEndsStreams(t *testing.T) {
	s := rig.Start(t)
	conn, err := pgx.Connect(t.Context(), s.PostgresURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	cases := []struct {
		name, reason string
		end          func(d *rig.Device)
	}{
		{"revoked", "DEVICE_REVOKED", func(d *rig.Device) {
			_, err := s.Client(d.User, "other").Devices.RevokeDevice(t.Context(), &parleyv1.RevokeDeviceRequest{DeviceId: d.Device})
			require.NoError(t, err)
		}},
		{"deactivated", "USER_DEACTIVATED", func(d *rig.Device) {
			_, err := s.Admin().DeactivateUser(t.Context(), &parleyv1.DeactivateUserRequest{UserId: d.User})
			require.NoError(t, err)
		}},
		{"revoked by SQL", "DEVICE_REVOKED", func(d *rig.Device) {
			_, err := conn.Exec(t.Context(), `UPDATE user_to_device SET revoked_at = now() WHERE user_id = $1`, d.User)
			require.NoError(t, err)
		}},
		{"deactivated by SQL", "USER_DEACTIVATED", func(d *rig.Device) {
			_, err := conn.Exec(t.Context(), `UPDATE app_user SET deactivated_at = now() WHERE user_id = $1`, d.User)
			require.NoError(t, err)
		}},
	}
	for i, c := range cases {
		d := s.NewDevice("user"+string(rune('a'+i)), "d")
		ended := make(chan error, 1)
		go func() { ended <- d.Once(context.Background()) }()
		d.WaitCaughtUp(1)
		c.end(d)
		select {
		case err := <-ended:
			require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(err), "%s: %v", c.name, err)
			require.Equal(t, c.reason, reason(err), c.name)
		case <-time.After(patience): // the promise is 2 s; a test does not judge by the clock
			require.Fail(t, c.name+": the stream is still open")
		}
		require.Eventually(t, func() bool {
			_, err := d.Sessions.ListSessions(t.Context(), &parleyv1.ListSessionsRequest{})
			return connect.CodeOf(err) == connect.CodeUnauthenticated && reason(err) == c.reason
		}, patience, 50*time.Millisecond, c.name)
	}
	res, err := s.Admin().CreateToken(t.Context(), &parleyv1.CreateTokenRequest{UserId: "short", DeviceId: "d", Ttl: durationpb.New(30 * time.Second)})
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "%v", res)
}
