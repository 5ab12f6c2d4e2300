package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// Moderation allows, rejects and replaces before anything is committed; without an answer happens what was decided; what
// was committed is not judged again.
func TestWebhookModeration(t *testing.T) {
	s := rig.Start(t, hookEnv...)
	alice, bob := s.Client("alice", "a1"), s.Client("bob", "b1")
	r := newReceiver(t)
	var mu sync.Mutex
	verdict := func(string) string { return `{"action":"MODERATION_ACTION_ALLOW"}` }
	var judged []string // bodies
	set := func(f func(string) string) { mu.Lock(); verdict = f; mu.Unlock() }
	r.answer = func(x told) (int, string) {
		var out []string
		mu.Lock()
		f := verdict
		mu.Unlock()
		for _, m := range x.payload.GetData().GetModerate() {
			out = append(out, f(m.GetContent().GetText().GetBody()))
			mu.Lock()
			judged = append(judged, m.GetContent().GetText().GetBody())
			mu.Unlock()
		}
		return http.StatusOK, `{"verdicts":[` + strings.Join(out, ",") + `]}`
	}
	_, err := s.Admin().CreateWebhook(t.Context(), &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookModerated}})
	require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), "what happens on failure has no default")
	hook := createHook(t, s, &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookModerated},
		ModerationFailure: parleyv1.ModerationFailure_MODERATION_FAILURE_REJECT, ModerationTimeout: durationpb.New(3 * time.Second)})
	_, err = s.Admin().CreateWebhook(t.Context(), &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookModerated},
		ModerationFailure: parleyv1.ModerationFailure_MODERATION_FAILURE_ALLOW})
	require.Equal(t, connect.CodeFailedPrecondition, connect.CodeOf(err), "only one moderates")
	// send repeats under the same id what moderation did not answer in time, as it may not on a busy machine.
	send := func(req *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
		for end := time.Now().Add(patience); ; {
			res, err := alice.Messages.SendMessage(t.Context(), req)
			if detailOf(err).GetReason() != parleyv1.ErrorReason_ERROR_REASON_MODERATION_UNAVAILABLE || time.Now().After(end) {
				return res, err
			}
		}
	}
	require.Eventually(t, func() bool {
		if _, err := send(rig.To("bob", "probe")); err != nil {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		return len(judged) > 0
	}, patience, 50*time.Millisecond)

	set(func(body string) string {
		switch {
		case strings.Contains(body, "bad"):
			return `{"action":"MODERATION_ACTION_REJECT","reason":"be kind"}`
		case strings.Contains(body, "replace"):
			return `{"action":"MODERATION_ACTION_REPLACE","content":{"text":{"body":"***"}}}`
		}
		return `{"action":"MODERATION_ACTION_ALLOW"}`
	})
	ok, err := send(rig.To("bob", "good"))
	require.NoError(t, err)
	_, err = send(rig.To("bob", "bad word"))
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	require.Contains(t, detailOf(err).String(), "be kind")
	replace := rig.To("bob", "replace me")
	replaced, err := send(replace)
	require.NoError(t, err)
	require.Equal(t, ok.GetSeq()+1, replaced.GetSeq(), "a rejected message leaves no hole")
	got, err := bob.Messages.GetMessage(t.Context(), &parleyv1.GetMessageRequest{SessionId: ok.GetSessionId(), Seq: replaced.GetSeq()})
	require.NoError(t, err)
	require.Equal(t, "***", got.GetMessage().GetContent().GetText().GetBody())

	// The same id again: the first answer, whatever moderation would say now; and another body is still another body.
	set(func(string) string { return `{"action":"MODERATION_ACTION_REJECT"}` })
	repeated, err := send(replace)
	require.NoError(t, err)
	require.Equal(t, replaced.GetSeq(), repeated.GetSeq())
	replace.Content = rig.To("bob", "something else").GetContent()
	_, err = send(replace)
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
	}, patience, 50*time.Millisecond)
	for _, result := range []string{"allow", "reject", "replace", "failed_reject", "failed_allow"} {
		require.Positive(t, s.MetricWith("parley_webhook_moderated_total", `result="`+result+`"`), result)
	}
	require.Positive(t, s.Metric("parley_webhook_moderation_seconds_count"))

	// Strangers' and muted members' messages are shown to nobody.
	r.start()
	mallory := s.Client("mallory", "m1")
	group := alice.Group(t.Context(), "bob")
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
	require.NotContains(t, judged, "let me in")
}
