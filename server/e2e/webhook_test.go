package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

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

	all := apart(r.until("all five events", func(all []told) bool { return len(apart(all)) >= 5 }))
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
		}, patience, 50*time.Millisecond)
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
	all := apart(r.until("created and recalled", func(all []told) bool { return len(apart(all)) >= 2 }))
	require.Equal(t, map[string]int{"message.created": 1, "message.recalled": 1}, countTypes(all))
	require.True(t, all[0].payload.GetData().GetMessage().GetIsDeleted())
	for _, x := range all {
		require.NotContains(t, string(x.raw), mark)
	}
	states := map[parleyv1.WebhookDeliveryState]int{}
	require.Eventually(t, func() bool { // the last answer may not be noted yet
		log, err := s.Admin().ListWebhookDeliveries(t.Context(), &parleyv1.ListWebhookDeliveriesRequest{WebhookId: hook.GetWebhook().GetWebhookId()})
		if err != nil || len(log.GetDeliveries()) != 3 {
			return false
		}
		clear(states)
		for _, d := range log.GetDeliveries() {
			states[d.GetState()]++
		}
		return states[parleyv1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_WAITING] == 0
	}, patience, 50*time.Millisecond)
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
	require.Eventually(t, func() bool { // an attempt is given up after seconds
		tested, err := s.Admin().TestWebhook(t.Context(), &parleyv1.TestWebhookRequest{WebhookId: id})
		return err == nil && tested.GetAttempt().GetError() == ""
	}, patience, 50*time.Millisecond)
	verifies := func(x told, secret string) bool {
		wh, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		return wh.Verify(x.raw, x.header) == nil
	}
	tests := len(r.all())
	first := r.all()[tests-1]
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
	five := apart(r.until("five messages", func(all []told) bool { return len(apart(all[tests:])) == 5 })[tests:])
	require.True(t, verifies(five[4], again.GetSecret()))
	require.False(t, verifies(five[4], rotated.GetSecret()))
	require.False(t, verifies(five[4], hook.GetSecret()))

	var seqs []int64
	var ids []string
	for token := ""; ; {
		var page *parleyv1.ListWebhookDeliveriesResponse
		require.Eventually(t, func() bool { // the last answer may not be noted yet
			page, err = s.Admin().ListWebhookDeliveries(t.Context(), &parleyv1.ListWebhookDeliveriesRequest{WebhookId: id, Limit: 2, PageToken: token,
				State: parleyv1.WebhookDeliveryState_WEBHOOK_DELIVERY_STATE_DELIVERED})
			return err == nil && (token != "" || len(page.GetDeliveries()) > 0 && page.GetDeliveries()[0].GetSeq() == 5)
		}, patience, 20*time.Millisecond)
		for _, d := range page.GetDeliveries() {
			seqs, ids = append(seqs, d.GetSeq()), append(ids, d.GetDeliveryId())
			require.NotEmpty(t, d.GetAttempts())
			require.True(t, slices.ContainsFunc(d.GetAttempts(), func(a *parleyv1.WebhookAttempt) bool { return a.GetStatus() == http.StatusNoContent }))
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	require.Equal(t, []int64{5, 4, 3, 2, 1}, seqs)
	before := len(r.all())
	replayed, err := s.Admin().ReplayWebhookDeliveries(t.Context(), &parleyv1.ReplayWebhookDeliveriesRequest{WebhookId: id, DeliveryIds: []string{ids[1], ids[3]}})
	require.NoError(t, err)
	require.EqualValues(t, 2, replayed.GetReplayed())
	two := apart(r.until("the replayed", func(all []told) bool { return len(apart(all[before:])) == 2 })[before:])
	require.Equal(t, []string{ids[3], ids[1]}, []string{two[0].id, two[1].id}, "in the order of the session")
	require.Equal(t, five[1].raw, two[0].raw)
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
