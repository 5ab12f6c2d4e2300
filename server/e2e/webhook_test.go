package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// hookEnv lets webhooks reach receivers of tests.
var hookEnv = []string{"PARLEY_WEBHOOK_KEY=" + strings.Repeat("5a", 32), "PARLEY_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8", "PARLEY_WEBHOOK_ALLOW_HTTP=true"}

// told is one request that a receiver took.
type told struct {
	id      string
	payload *parleyv1.WebhookPayload
	header  http.Header
	raw     []byte
}

func (r told) key() string {
	m := r.payload.GetData().GetMessage()
	return fmt.Sprintf("%s %s %d", r.payload.GetType(), m.GetSessionId(), m.GetSeq())
}

// receiver is an app's backend that takes webhooks. It can be killed and started again on the same address.
type receiver struct {
	t      *testing.T
	addr   string
	answer func(told) (int, string) // nil: 204

	mu   sync.Mutex
	took []told
	srv  *http.Server
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *receiver) start() {
	addr := r.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var ln net.Listener
	require.Eventually(r.t, func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", addr) //nolint:noctx // at once
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
	r.addr = ln.Addr().String()
	srv := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.mu.Lock()
	r.srv = srv
	r.mu.Unlock()
	go func() { _ = srv.Serve(ln) }()
}

func (r *receiver) kill() {
	r.mu.Lock()
	srv := r.srv
	r.mu.Unlock()
	_ = srv.Close()
}

func (r *receiver) url() string { return "http://" + r.addr + "/hooks" }

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	x := told{id: req.Header.Get("webhook-id"), payload: &parleyv1.WebhookPayload{}, header: req.Header.Clone(), raw: raw}
	if err := protojson.Unmarshal(raw, x.payload); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	status, body := http.StatusNoContent, ""
	if r.answer != nil {
		status, body = r.answer(x)
	}
	if status/100 == 2 {
		r.mu.Lock()
		r.took = append(r.took, x)
		r.mu.Unlock()
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (r *receiver) all() []told {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]told(nil), r.took...)
}

// until waits until what was taken satisfies a condition.
func (r *receiver) until(what string, ok func([]told) bool) []told {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return ok(r.all()) }, 3*time.Minute, 50*time.Millisecond, what)
	return r.all()
}

func createHook(t *testing.T, s *rig.Server, req *parleyv1.CreateWebhookRequest) *parleyv1.CreateWebhookResponse {
	t.Helper()
	res, err := s.Admin().CreateWebhook(t.Context(), req)
	require.NoError(t, err)
	return res
}

const (
	hookCreated   = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MESSAGE_CREATED
	hookRecalled  = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MESSAGE_RECALLED
	hookMembers   = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MEMBER_CHANGED
	hookSettings  = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_SESSION_CHANGED
	hookRelations = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_RELATION_CHANGED
	hookOffline   = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MESSAGE_OFFLINE
	hookModerated = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MODERATION
)

func countTypes(all []told) map[string]int {
	n := make(map[string]int)
	for _, x := range all {
		n[x.payload.GetType()]++
	}
	return n
}

// Each kind of event is told once, signed, in its session's order, and nothing from before the webhook.
func TestWebhookTellsWhatHappens(t *testing.T) {
	s := rig.Start(t, hookEnv...)
	alice, _ := s.Client("alice", "a1"), s.Token("bob", "b1")
	s.Token("carol", "c1")
	before := alice.Send(t.Context(), "bob", "before the webhook")
	group := alice.Group(t.Context(), "bob")
	alice.Send(t.Context(), group, "before, too")
	r := newReceiver(t)
	hook := createHook(t, s, &parleyv1.CreateWebhookRequest{Url: r.url(),
		EventTypes: []parleyv1.WebhookEventType{hookCreated, hookRecalled, hookMembers, hookSettings, hookRelations}})
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, hook.GetSecret())

	sent := alice.Send(t.Context(), before.GetSessionId(), "told")
	_, err := alice.Messages.RecallMessage(t.Context(), &parleyv1.RecallMessageRequest{SessionId: sent.GetSessionId(), Seq: sent.GetSeq()})
	require.NoError(t, err)
	_, err = alice.Sessions.AddMembers(t.Context(), &parleyv1.AddMembersRequest{SessionId: group, UserIds: []string{"carol"}})
	require.NoError(t, err)
	title := "another title"
	_, err = alice.Sessions.UpdateSession(t.Context(), &parleyv1.UpdateSessionRequest{SessionId: group, Title: &title})
	require.NoError(t, err)
	_, err = alice.Relations.BlockUser(t.Context(), &parleyv1.BlockUserRequest{UserId: "carol"})
	require.NoError(t, err)

	all := r.until("all five events", func(all []told) bool { return len(all) >= 5 })
	require.Equal(t, map[string]int{"message.created": 1, "message.recalled": 1, "member.changed": 1, "session.changed": 1, "relation.changed": 1}, countTypes(all))
	wh, err := standardwebhooks.NewWebhook(hook.GetSecret())
	require.NoError(t, err)
	last := map[string]int64{}
	for _, x := range all {
		require.NoError(t, wh.Verify(x.raw, x.header))
		require.NoError(t, uuid.Validate(x.id))
		if m := x.payload.GetData().GetMessage(); m != nil {
			require.Greater(t, m.GetSeq(), last[m.GetSessionId()])
			last[m.GetSessionId()] = m.GetSeq()
		}
		if rel := x.payload.GetData().GetRelation(); rel != nil {
			require.Equal(t, "alice", rel.GetUserId())
			require.Equal(t, "carol", rel.GetPeerId())
			require.Equal(t, parleyv1.RelationKind_RELATION_KIND_BLOCKED, rel.GetKind())
		}
	}
	// Only the admin key manages webhooks.
	_, err = alice.Admin().ListWebhooks(t.Context(), &parleyv1.ListWebhooksRequest{})
	require.Error(t, err)
	list, err := s.Admin().ListWebhooks(t.Context(), &parleyv1.ListWebhooksRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetWebhooks(), 1)
	require.NotContains(t, list.String(), hook.GetSecret()[6:])
	_, err = s.Admin().DeleteWebhook(t.Context(), &parleyv1.DeleteWebhookRequest{WebhookId: hook.GetWebhook().GetWebhookId()})
	require.NoError(t, err)
	_, err = s.Admin().TestWebhook(t.Context(), &parleyv1.TestWebhookRequest{WebhookId: hook.GetWebhook().GetWebhookId()})
	require.Equal(t, connect.CodeNotFound, connect.CodeOf(err))
	s.Stop()
	require.NotContains(t, s.Log(), hook.GetSecret()[6:])
}

// The receiver is killed and comes back, twice; the server is killed in between. Every committed message is told, under one
// id, in the order of its session.
func TestWebhookReceiverAndServerKilled(t *testing.T) {
	t.Parallel()
	s := rig.Start(t, hookEnv...)
	alice := s.Client("alice", "a1")
	for _, u := range []string{"bob", "carol", "dave"} {
		s.Token(u, "d1")
	}
	r := newReceiver(t)
	createHook(t, s, &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookCreated}})
	// What the receiver answers with an error has been read nonetheless: its id must come again.
	var mu sync.Mutex
	refused, n := map[string]string{}, 0
	r.answer = func(x told) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n%17 == 3 {
			refused[x.key()] = x.id
			return http.StatusServiceUnavailable, ""
		}
		return http.StatusNoContent, ""
	}
	want := map[string]bool{}
	send := func(count int) {
		for i := range count {
			for _, u := range []string{"bob", "carol", "dave"} {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				res, err := alice.Messages.SendMessage(ctx, rig.To(u, fmt.Sprint("m", i)))
				cancel()
				require.NoError(t, err)
				want[fmt.Sprintf("message.created %s %d", res.GetSessionId(), res.GetSeq())] = true
			}
		}
	}
	send(10)
	r.kill()
	send(10)
	s.Kill() // right after commits that were perhaps not even read
	s.Restart()
	send(5)
	r.start()
	send(5)
	r.until("the first come again", func(all []told) bool { return len(all) > 20 })
	r.kill()
	send(5)
	s.Kill()
	r.start()
	s.Restart()
	send(2)

	all := r.until("everything", func(all []told) bool {
		got := map[string]bool{}
		for _, x := range all {
			got[x.key()] = true
		}
		return len(got) >= len(want)
	})
	ids, keys, last, again := map[string]string{}, map[string]string{}, map[string]int64{}, 0
	for _, x := range all {
		require.True(t, want[x.key()], "nobody sent %s", x.key())
		if id, seen := ids[x.key()]; seen {
			require.Equal(t, id, x.id, "an event has one id")
			again++
			continue
		}
		if key, seen := keys[x.id]; seen {
			require.Equal(t, key, x.key(), "an id has one event")
		}
		ids[x.key()], keys[x.id] = x.id, x.key()
		m := x.payload.GetData().GetMessage()
		require.Equal(t, last[m.GetSessionId()]+1, m.GetSeq(), "order of the session")
		last[m.GetSessionId()] = m.GetSeq()
	}
	require.Len(t, ids, len(want))
	mu.Lock()
	defer mu.Unlock()
	require.NotEmpty(t, refused)
	for key, id := range refused {
		require.Equal(t, id, ids[key], "the id of the first attempt")
	}
	t.Logf("%d events, %d told twice, %d refused at first", len(want), again, len(refused))
}

// A body that is recalled before its delivery goes nowhere, and no table of webhooks ever holds one.
func TestWebhookHoldsNoBodies(t *testing.T) {
	t.Parallel()
	s := rig.Start(t, hookEnv...)
	alice := s.Client("alice", "a1")
	s.Token("bob", "b1")
	r := newReceiver(t)
	r.kill()
	hook := createHook(t, s, &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookCreated, hookRecalled, hookOffline}})
	const mark = "canary-7f3a91"
	sent := alice.Send(t.Context(), "bob", mark)
	waiting := func(n int) {
		require.Eventually(t, func() bool {
			res, err := s.Admin().ListWebhooks(t.Context(), &parleyv1.ListWebhooksRequest{})
			return err == nil && int(res.GetWebhooks()[0].GetWaiting()) >= n
		}, time.Minute, 50*time.Millisecond)
	}
	waiting(2)
	conn, err := pgx.Connect(t.Context(), s.PostgresURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	for _, table := range []string{"webhook_delivery", "webhook_attempt", "river.river_job"} {
		var n int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table+" x WHERE x::text LIKE '%"+mark+"%'").Scan(&n))
		require.Zero(t, n, table)
	}
	_, err = alice.Messages.RecallMessage(t.Context(), &parleyv1.RecallMessageRequest{SessionId: sent.GetSessionId(), Seq: sent.GetSeq()})
	require.NoError(t, err)
	waiting(3)
	r.start()
	all := r.until("created and recalled", func(all []told) bool { return len(all) >= 2 })
	require.Equal(t, map[string]int{"message.created": 1, "message.recalled": 1}, countTypes(all))
	require.True(t, all[0].payload.GetData().GetMessage().GetIsDeleted())
	for _, x := range all {
		require.NotContains(t, string(x.raw), mark)
	}
	log, err := s.Admin().ListWebhookDeliveries(t.Context(), &parleyv1.ListWebhookDeliveriesRequest{WebhookId: hook.GetWebhook().GetWebhookId()})
	require.NoError(t, err)
	require.Len(t, log.GetDeliveries(), 3)
	states := map[parleyv1.WebhookDeliveryState]int{}
	for _, d := range log.GetDeliveries() {
		states[d.GetState()]++
	}
	require.Equal(t, map[parleyv1.WebhookDeliveryState]int{parleyv1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_DELIVERED: 2,
		parleyv1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_NEEDLESS: 1}, states, "nobody is notified of what was recalled")
}

// Rotation signs with both secrets; the log pages; a replay has the id that it had.
func TestWebhookRotationLogAndReplay(t *testing.T) {
	s := rig.Start(t, hookEnv...)
	alice := s.Client("alice", "a1")
	s.Token("bob", "b1")
	r := newReceiver(t)
	hook := createHook(t, s, &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookCreated}})
	id := hook.GetWebhook().GetWebhookId()
	rotated, err := s.Admin().RotateWebhookSecret(t.Context(), &parleyv1.RotateWebhookSecretRequest{WebhookId: id})
	require.NoError(t, err)
	require.NotEqual(t, hook.GetSecret(), rotated.GetSecret())
	tested, err := s.Admin().TestWebhook(t.Context(), &parleyv1.TestWebhookRequest{WebhookId: id})
	require.NoError(t, err)
	require.Empty(t, tested.GetAttempt().GetError())
	verifies := func(x told, secret string) bool {
		wh, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		return wh.Verify(x.raw, x.header) == nil
	}
	first := r.all()[0]
	require.Equal(t, "webhook.test", first.payload.GetType())
	require.Len(t, strings.Split(first.header.Get("webhook-signature"), " "), 2)
	require.True(t, verifies(first, hook.GetSecret()))
	require.True(t, verifies(first, rotated.GetSecret()))
	again, err := s.Admin().RotateWebhookSecret(t.Context(), &parleyv1.RotateWebhookSecretRequest{WebhookId: id, Overlap: durationpb.New(0)})
	require.NoError(t, err)
	require.Nil(t, again.GetOldSecretUntil())

	for i := range 5 {
		alice.Send(t.Context(), "bob", fmt.Sprint("m", i))
	}
	all := r.until("five messages", func(all []told) bool { return len(all) == 6 })
	require.True(t, verifies(all[5], again.GetSecret()))
	require.False(t, verifies(all[5], rotated.GetSecret()))
	require.False(t, verifies(all[5], hook.GetSecret()))

	var seqs []int64
	var ids []string
	for token := ""; ; {
		var page *parleyv1.ListWebhookDeliveriesResponse
		require.Eventually(t, func() bool { // the last answer may not be noted yet
			page, err = s.Admin().ListWebhookDeliveries(t.Context(), &parleyv1.ListWebhookDeliveriesRequest{WebhookId: id, Limit: 2, PageToken: token,
				State: parleyv1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_DELIVERED})
			return err == nil && (token != "" || page.GetDeliveries()[0].GetSeq() == 5)
		}, time.Minute, 20*time.Millisecond)
		for _, d := range page.GetDeliveries() {
			seqs, ids = append(seqs, d.GetSeq()), append(ids, d.GetDeliveryId())
			require.Len(t, d.GetAttempts(), 1)
			require.EqualValues(t, http.StatusNoContent, d.GetAttempts()[0].GetStatus())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	require.Equal(t, []int64{5, 4, 3, 2, 1}, seqs)
	replayed, err := s.Admin().ReplayWebhookDeliveries(t.Context(), &parleyv1.ReplayWebhookDeliveriesRequest{WebhookId: id, DeliveryIds: []string{ids[1], ids[3]}})
	require.NoError(t, err)
	require.EqualValues(t, 2, replayed.GetReplayed())
	all = r.until("the replayed", func(all []told) bool { return len(all) == 8 })
	require.Equal(t, []string{ids[3], ids[1]}, []string{all[6].id, all[7].id}, "in the order of the session")
	require.Equal(t, all[2].raw, all[6].raw)
}

// A message is told for users without a live device, with where to push to; not for muted ones, nor for who is there.
func TestWebhookForOfflineUsers(t *testing.T) {
	s := rig.Start(t, hookEnv...)
	alice := s.Client("alice", "a1")
	bob, carol := s.Client("bob", "b1"), s.Client("carol", "c1")
	_, err := bob.Devices.RegisterDevice(t.Context(), &parleyv1.RegisterDeviceRequest{PushTarget: "push-bob", Platform: parleyv1.DevicePlatform_DEVICE_PLATFORM_IOS})
	require.NoError(t, err)
	s.Token("dave", "d1")
	dave := s.Online("dave", "d1")
	group := alice.Group(t.Context(), "bob", "carol", "dave")
	dave.WaitSeq(group, 1)
	muted := true
	_, err = carol.Sessions.UpdateMembership(t.Context(), &parleyv1.UpdateMembershipRequest{SessionId: group, NotificationsMuted: &muted})
	require.NoError(t, err)
	r := newReceiver(t)
	createHook(t, s, &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookOffline}})
	sent := alice.Send(t.Context(), group, "hello")
	all := r.until("the push", func(all []told) bool { return len(all) > 0 })
	require.Equal(t, "message.offline", all[0].payload.GetType())
	require.Equal(t, sent.GetSeq(), all[0].payload.GetData().GetMessage().GetSeq())
	users := all[0].payload.GetData().GetOfflineUsers()
	require.Len(t, users, 1)
	require.Equal(t, "bob", users[0].GetUserId())
	require.Len(t, users[0].GetDevices(), 1)
	require.Equal(t, "push-bob", users[0].GetDevices()[0].GetPushTarget())
	require.Equal(t, parleyv1.DevicePlatform_DEVICE_PLATFORM_IOS, users[0].GetDevices()[0].GetPlatform())
}

// Moderation allows, rejects and replaces before anything is committed; without an answer happens what was decided; what
// was committed is not judged again.
func TestWebhookModeration(t *testing.T) {
	s := rig.Start(t, hookEnv...)
	alice, bob := s.Client("alice", "a1"), s.Client("bob", "b1")
	r := newReceiver(t)
	var mu sync.Mutex
	verdict, judged := func(string) string { return `{"action":"MODERATION_ACTION_ALLOW"}` }, 0
	set := func(f func(string) string) { mu.Lock(); verdict = f; mu.Unlock() }
	r.answer = func(x told) (int, string) {
		var out []string
		mu.Lock()
		f := verdict
		mu.Unlock()
		for _, m := range x.payload.GetData().GetModerate() {
			out = append(out, f(m.GetContent().GetText().GetBody()))
		}
		mu.Lock()
		judged += len(out)
		mu.Unlock()
		return http.StatusOK, `{"verdicts":[` + strings.Join(out, ",") + `]}`
	}
	_, err := s.Admin().CreateWebhook(t.Context(), &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookModerated}})
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "what happens on failure has no default")
	hook := createHook(t, s, &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookModerated},
		ModerationFailure: parleyv1.ModerationFailure_MODERATION_FAILURE_REJECT, ModerationTimeout: durationpb.New(2 * time.Second)})
	_, err = s.Admin().CreateWebhook(t.Context(), &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookModerated},
		ModerationFailure: parleyv1.ModerationFailure_MODERATION_FAILURE_ALLOW})
	require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), "only one moderates")
	require.Eventually(t, func() bool {
		alice.Send(t.Context(), "bob", "probe")
		mu.Lock()
		defer mu.Unlock()
		return judged > 0
	}, time.Minute, 50*time.Millisecond)

	set(func(body string) string {
		switch {
		case strings.Contains(body, "bad"):
			return `{"action":"MODERATION_ACTION_REJECT","reason":"be kind"}`
		case strings.Contains(body, "replace"):
			return `{"action":"MODERATION_ACTION_REPLACE","content":{"text":{"body":"***"}}}`
		}
		return `{"action":"MODERATION_ACTION_ALLOW"}`
	})
	ok := alice.Send(t.Context(), "bob", "good")
	_, err = alice.Messages.SendMessage(t.Context(), rig.To("bob", "bad word"))
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	require.Contains(t, detailOf(err).String(), "be kind")
	replace := rig.To("bob", "replace me")
	replaced, err := alice.Messages.SendMessage(t.Context(), replace)
	require.NoError(t, err)
	require.Equal(t, ok.GetSeq()+1, replaced.GetSeq(), "a rejected message leaves no hole")
	got, err := bob.Messages.GetMessage(t.Context(), &parleyv1.GetMessageRequest{SessionId: ok.GetSessionId(), Seq: replaced.GetSeq()})
	require.NoError(t, err)
	require.Equal(t, "***", got.GetMessage().GetContent().GetText().GetBody())

	// The same id again: the first answer, whatever moderation would say now; and another body is still another body.
	set(func(string) string { return `{"action":"MODERATION_ACTION_REJECT"}` })
	repeated, err := alice.Messages.SendMessage(t.Context(), replace)
	require.NoError(t, err)
	require.Equal(t, replaced.GetSeq(), repeated.GetSeq())
	replace.Content = rig.To("bob", "something else").GetContent()
	_, err = alice.Messages.SendMessage(t.Context(), replace)
	require.Equal(t, connect.CodeAlreadyExists, connect.CodeOf(err))

	// No valid answer.
	set(func(string) string { return `{"action":"MODERATION_ACTION_UNSPECIFIED"}` })
	_, err = alice.Messages.SendMessage(t.Context(), rig.To("bob", "nobody knows"))
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_MODERATION_UNAVAILABLE, detailOf(err).GetReason())
	_, err = s.Admin().UpdateWebhook(t.Context(), &parleyv1.UpdateWebhookRequest{WebhookId: hook.GetWebhook().GetWebhookId(),
		ModerationFailure: parleyv1.ModerationFailure_MODERATION_FAILURE_ALLOW})
	require.NoError(t, err)
	r.kill()
	require.Eventually(t, func() bool {
		_, err := alice.Messages.SendMessage(t.Context(), rig.To("bob", "let through"))
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	for _, result := range []string{"allow", "reject", "replace", "failed_reject", "failed_allow"} {
		require.Positive(t, s.MetricWith("parley_webhook_moderated_total", `result="`+result+`"`), result)
	}
	require.Positive(t, s.Metric("parley_webhook_moderation_seconds_count"))

	// Strangers' and muted members' messages are shown to nobody.
	r.start()
	mallory := s.Client("mallory", "m1")
	group := alice.Group(t.Context(), "bob")
	mu.Lock()
	before := judged
	mu.Unlock()
	for range 20 {
		_, err = mallory.Messages.SendMessage(t.Context(), rig.To(group, "let me in"))
		require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE, detailOf(err).GetReason())
	}
	_, err = alice.Relations.BlockUser(t.Context(), &parleyv1.BlockUserRequest{UserId: "mallory"})
	require.NoError(t, err)
	_, err = mallory.Messages.SendMessage(t.Context(), rig.To("alice", "let me in"))
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_UNAVAILABLE, detailOf(err).GetReason())
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, before, judged)
}

// Without a key there are no webhooks, and by default none reaches this machine or plain http.
func TestWebhookDefaultsAreClosed(t *testing.T) {
	t.Parallel()
	s := rig.Start(t)
	req := &parleyv1.CreateWebhookRequest{Url: "https://hooks.example/x", EventTypes: []parleyv1.WebhookEventType{hookCreated}}
	_, err := s.Admin().CreateWebhook(t.Context(), req)
	require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_WEBHOOKS_OFF, detailOf(err).GetReason())
	closed := rig.Start(t, hookEnv[0])
	r := newReceiver(t)
	for _, url := range []string{r.url(), "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "ftp://x.example", "https://u:p@x.example/", "x"} {
		_, err := closed.Admin().CreateWebhook(t.Context(), &parleyv1.CreateWebhookRequest{Url: url, EventTypes: []parleyv1.WebhookEventType{hookCreated}})
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), url)
	}
	_, port, err := net.SplitHostPort(r.addr)
	require.NoError(t, err)
	hook := createHook(t, closed, &parleyv1.CreateWebhookRequest{Url: "https://localhost:" + port + "/", EventTypes: []parleyv1.WebhookEventType{hookCreated}})
	tested, err := closed.Admin().TestWebhook(t.Context(), &parleyv1.TestWebhookRequest{WebhookId: hook.GetWebhook().GetWebhookId()})
	require.NoError(t, err)
	require.Equal(t, "address_denied", tested.GetAttempt().GetError(), "a name is judged by where it leads")
}
