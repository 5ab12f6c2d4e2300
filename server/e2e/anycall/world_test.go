package anycall

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// caller is somebody who makes calls.
type caller struct {
	name   string
	header string // of Authorization; empty for none
	weight int
}

// world is a server with people in it.
type world struct {
	t       testing.TB
	server  *rig.Server
	audit   *audit
	pool    *pool
	alice   *rig.Client
	bob     *rig.Client
	callers []caller
	h1, h2  *http.Client
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, server: rig.Start(t, "PARLEY_WEBHOOK_KEY="+strings.Repeat("5a", 32),
		"PARLEY_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8", "PARLEY_WEBHOOK_ALLOW_HTTP=true"), pool: &pool{}}
	s := w.server
	w.alice = s.Client("alice", "a")
	w.bob = s.Client("bob", "b")
	carol := s.Client("carol", "c")
	for _, user := range []string{"dave", "erin", "gone", "away"} {
		s.Token(user, "d")
	}
	gone, revoked := s.Token("gone", "g"), s.Token("dave", "lost")
	_, err := s.Admin().DeactivateUser(t.Context(), &parleyv1.DeactivateUserRequest{UserId: "gone"})
	require.NoError(t, err)
	_, err = s.Client("dave", "d2").Devices.RevokeDevice(t.Context(), &parleyv1.RevokeDeviceRequest{DeviceId: "lost"})
	require.NoError(t, err)
	_, err = w.alice.Relations.BlockUser(t.Context(), &parleyv1.BlockUserRequest{UserId: "erin"})
	require.NoError(t, err)
	for _, device := range []string{"spare1", "spare2", "spare3"} {
		s.Token("alice", device)
		s.Token("bob", device)
	}

	direct := w.alice.Send(t.Context(), "bob", "hi")
	foreign := carol.Group(t.Context(), "dave")
	unread, err := w.alice.Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{Limit: 1})
	require.NoError(t, err)
	w.pool = &pool{
		users:      []string{"alice", "bob", "carol", "dave", "erin", "gone", "nobody", "away"},
		devices:    []string{"spare1", "spare2", "spare3", "none"},
		sessions:   []string{direct.GetSessionId(), foreign, uuid.NewString()},
		messageIDs: []string{direct.GetMessageId()},
		tokens:     []string{"", "", "", "AAAA", unread.GetNextPageToken(), private},
		epochs:     []string{"", direct.GetEpoch(), direct.GetEpoch(), "1-1-1"},
	}
	w.group()
	w.callers = []caller{
		{"alice", w.alice.Token, 8}, {"bob", w.bob.Token, 6}, {"carol", carol.Token, 3},
		{"the app's server", strings.ReplaceAll(rig.AdminKey, " ", "-"), 3},
		{"nobody", "", 1}, {"a revoked device", revoked, 1}, {"a deactivated user", gone, 1}, {"a forged token", private + ".x.y", 1},
	}
	var one, two http.Protocols
	one.SetHTTP1(true)
	two.SetUnencryptedHTTP2(true)
	h1, h2 := &http.Transport{Protocols: &one}, &http.Transport{Protocols: &two}
	t.Cleanup(h1.CloseIdleConnections)
	t.Cleanup(h2.CloseIdleConnections)
	w.h1, w.h2 = &http.Client{Transport: h1}, &http.Client{Transport: h2}
	return w
}

// group makes a group for calls to meet, since calls empty those that are there. The oldest is forgotten. Webhooks are as few
// again as lets calls make some.
func (w *world) group() {
	w.hooks()
	if len(w.pool.sessions) > 6 {
		w.pool.sessions = append(w.pool.sessions[:3:3], w.pool.sessions[4:]...)
	}
	for by, whom := range map[*rig.Client][]string{w.alice: {"bob", "dave"}, w.bob: {"alice"}} {
		for _, user := range whom {
			_, err := by.Relations.UnblockUser(w.t.Context(), &parleyv1.UnblockUserRequest{UserId: user})
			require.NoError(w.t, err)
		}
	}
	// Requests to respond to, as far as those who took part meanwhile let them be made.
	for _, user := range []string{"bob", "carol"} {
		_, _ = w.alice.Relations.RemoveFriend(w.t.Context(), &parleyv1.RemoveFriendRequest{UserId: user})
		_, _ = w.alice.Relations.RequestFriend(w.t.Context(), &parleyv1.RequestFriendRequest{UserId: user})
	}
	_, _ = w.bob.Relations.RemoveFriend(w.t.Context(), &parleyv1.RemoveFriendRequest{UserId: "carol"})
	_, _ = w.bob.Relations.RequestFriend(w.t.Context(), &parleyv1.RequestFriendRequest{UserId: "carol"})
	id := w.alice.Group(w.t.Context(), "bob", "dave")
	for range 3 {
		w.alice.Send(w.t.Context(), id, "hi")
	}
	w.pool.sessions = append(w.pool.sessions, id, id)
}

// hooks leaves a few webhooks, at least one.
func (w *world) hooks() {
	admin := w.server.Admin()
	list, err := admin.ListWebhooks(w.t.Context(), &parleyv1.ListWebhooksRequest{})
	require.NoError(w.t, err)
	w.pool.webhooks = []string{uuid.NewString()}
	for i, hook := range list.GetWebhooks() {
		if i < 5 {
			w.pool.webhooks = append(w.pool.webhooks, hook.GetWebhookId())
			continue
		}
		_, err = admin.DeleteWebhook(w.t.Context(), &parleyv1.DeleteWebhookRequest{WebhookId: hook.GetWebhookId()})
		require.NoError(w.t, err)
	}
	made, err := admin.CreateWebhook(w.t.Context(), &parleyv1.CreateWebhookRequest{Url: "http://127.0.0.1:9/",
		EventTypes: []parleyv1.WebhookEventType{parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MESSAGE_CREATED}})
	require.NoError(w.t, err)
	w.pool.webhooks = append(w.pool.webhooks, made.GetWebhook().GetWebhookId())
}

// noHooks leaves none.
func (w *world) noHooks() {
	list, err := w.server.Admin().ListWebhooks(w.t.Context(), &parleyv1.ListWebhooksRequest{})
	require.NoError(w.t, err)
	for _, hook := range list.GetWebhooks() {
		_, err = w.server.Admin().DeleteWebhook(w.t.Context(), &parleyv1.DeleteWebhookRequest{WebhookId: hook.GetWebhookId()})
		require.NoError(w.t, err)
	}
}

func (w *world) client(e encoding) *http.Client {
	if e == grpcProto {
		return w.h2
	}
	return w.h1
}

// learn keeps page tokens that answers give.
func (w *world) learn(body []byte) {
	var page struct {
		NextPageToken string `json:"nextPageToken"`
	}
	if json.Unmarshal(body, &page) == nil && page.NextPageToken != "" {
		w.pool.tokens[4] = page.NextPageToken
	}
}
