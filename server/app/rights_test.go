package app

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/rpc"
	"github.com/parley-im/parley/server/session"
)

// TestRights calls every rpc as every kind of caller on every kind of session, and holds the answers against the table.
func TestRights(t *testing.T) {
	every := map[string]bool{}
	for _, r := range table {
		every[r.rpc] = true
	}
	require.Equal(t, rpcs(), every, "every rpc has a row, and every row an rpc")

	w := newRightsWorld(t)
	cells := 0
	expect := func(want, who, where string, r row, bearer, body string) bool {
		t.Helper()
		cells++
		got, answer := w.call(bearer, r.rpc, body)
		if got != want {
			t.Errorf("%s by %s, %s: %s, not %s: %s", r.name(), who, where, got, want, answer)
		}
		return got == "OK"
	}
	bearers := map[string]string{"nobody": "", "a deactivated user": w.tokens[deactivated], "a revoked device": w.tokens["revoked"],
		"an unknown device": w.tokens["unknown"], "the admin key": w.key, "any user": w.tokens["member"]}
	for _, r := range table {
		for _, o := range outside {
			want := o.user
			if r.admin {
				want = o.server
			}
			if r.device && o.caller == "an unknown device" {
				continue // below: it is a known one from then on
			}
			if want != "" {
				for _, at := range []place{w.group, w.direct["member"], w.theirs, {id: uuid.NewString()}} {
					expect(want, o.caller, "anywhere", r, bearers[o.caller], w.hooked(r.fill(at, "member", "victim")))
				}
			}
		}
		switch {
		case r.admin:
		case r.group == "":
			for _, user := range append([]string{"stranger"}, parts...) {
				expect(answers[r.alone], user, "alone", r, w.tokens[user], r.fill(place{}, user, "victim"))
			}
		default:
			for i, user := range append(parts, "owner's other device") {
				part, self := min(i, len(parts)-1), parts[min(i, len(parts)-1)]
				ok := expect(answers[r.group[part]], user, "in the group", r, w.tokens[user], r.fill(w.group, self, "victim"))
				if ok && r.writes {
					w.rebuild()
				}
				expect("SESSION_UNAVAILABLE", user, "elsewhere", r, w.tokens[user], r.fill(w.theirs, self, "victim"))
				expect("SESSION_UNAVAILABLE", user, "nowhere", r, w.tokens[user], r.fill(place{id: uuid.NewString()}, self, "victim"))
				direct := answers[r.direct[0]]
				if user == "blocked" {
					direct = answers[r.direct[1]]
				}
				expect(direct, user, "in a direct session", r, w.tokens[user], r.fill(w.direct[self], self, "other"))
				expect(answers[r.direct[2]], user, "in a direct session with a deactivated user", r, w.tokens[user],
					r.fill(w.orphaned[self], self, deactivated))
			}
			expect("SESSION_UNAVAILABLE", "a stranger", "in the group", r, w.tokens["stranger"], r.fill(w.group, "stranger", "victim"))
		}
	}
	t.Logf("%d calls", cells)
	require.Greater(t, cells, 1500)
	require.Equal(t, "OK", first(w.call(w.tokens["unknown"], "DeviceService/RegisterDevice", `{}`)), "an unknown device may register")
	require.Equal(t, "OK", first(w.call(w.tokens["unknown"], "SessionService/ListSessions", `{}`)))
}

func first(s, _ string) string { return s }

// TestDeclaredRights: what rpc declares of each procedure, decided by the domain's table, is what the table here says.
func TestDeclaredRights(t *testing.T) {
	part := func(name string) session.Part {
		p := session.Part{Known: true, Active: name != "former", Kind: session.KindGroup, Role: session.RoleMember,
			SendRole: session.RoleMember, Muted: name == "muted"}
		switch name {
		case "admin":
			p.Role = session.RoleAdmin
		case "owner":
			p.Role = session.RoleOwner
		}
		return p
	}
	for _, r := range table {
		actions := rpc.Rights("/parley.v1." + r.rpc)
		if r.group == "" {
			require.True(t, len(actions) == 0 || actions[0] == session.Read, "%s: lists what may be read", r.name())
			continue
		}
		// Of several actions the row's own is the one with all the same answers.
		require.True(t, slices.ContainsFunc(actions, func(a session.Action) bool {
			for i, name := range parts {
				may := session.Authorize(a, part(name)) == nil
				if want := r.group[i]; !may && want == '.' || may && (want == 'S' || want == 'M') {
					return false
				}
			}
			return true
		}), "%s: %v", r.name(), actions)
	}
}

// rpcs are all that the API has.
func rpcs() map[string]bool {
	out := map[string]bool{}
	protoregistry.GlobalFiles.RangeFilesByPackage("parley.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				out[string(s.Name())+"/"+string(s.Methods().Get(j).Name())] = true
			}
		}
		return true
	})
	return out
}

// TestForbiddenLooksLikeMissing: a session that is not the caller's and one that does not exist get the same answer to the
// byte, and cost the same.
func TestForbiddenLooksLikeMissing(t *testing.T) {
	w := newRightsWorld(t)
	ask := func(who string, r row, p place) func() string {
		return func() string {
			cost := w.cost(w.tokens[who], r.rpc, func() string { return r.fill(p, who, "victim") }, p.id)
			require.Contains(t, cost, "SESSION_UNAVAILABLE", r.name())
			return cost
		}
	}
	for _, r := range table {
		if r.group == "" {
			continue
		}
		all := []func() string{ask("stranger", r, place{id: uuid.NewString()}), ask("stranger", r, w.group),
			// The id of a direct session can be computed by anybody who knows both users.
			ask("stranger", r, w.direct["member"])}
		if r.group[0] == 'S' { // what a former member may not do
			all = append(all, ask("former", r, w.group))
		}
		w.same(r.name(), all...)
	}
}

// TestUnreadOfOthersLooksLikeNone: of a session that is not the caller's as many are unread as of one that is not there.
func TestUnreadOfOthersLooksLikeNone(t *testing.T) {
	w := newRightsWorld(t)
	ask := func(id string) func() string {
		return func() string {
			cost := w.cost(w.tokens["stranger"], "StateService/GetUnread", func() string { return `{"sessionIds":["` + id + `"]}` }, id)
			require.Contains(t, cost, "{} ", "nothing is said of it")
			return cost
		}
	}
	w.same("unread", ask(uuid.NewString()), ask(w.group.id), ask(w.direct["member"].id))
}

// TestServersRightsLookTheSame: who is no server of the app learns nothing of a webhook's id or of a user's, of those that
// there are as of others.
func TestServersRightsLookTheSame(t *testing.T) {
	w := newRightsWorld(t)
	hook := w.hooked("{H}")
	for _, r := range table {
		if !r.admin {
			continue
		}
		ask := func(who string) func(webhook, user string) string {
			return func(webhook, user string) string {
				body := strings.NewReplacer("{H}", webhook, `"victim"`, `"`+user+`"`, `"`+deactivated+`"`, `"`+user+`"`).Replace(r.body)
				return w.cost(w.tokens[who], r.rpc, func() string { return body }, "\x00")
			}
		}
		for _, who := range []string{"member", deactivated, "revoked"} {
			for _, user := range []string{"victim", deactivated} {
				refused := func(webhook, user string) func() string {
					return func() string {
						cost := ask(who)(webhook, user)
						require.Contains(t, cost, "ERROR_REASON_", r.name())
						return cost
					}
				}
				w.same(r.name(), refused(uuid.NewString(), "nobody-at-all"), refused(hook, user))
			}
		}
	}
}

// TestDevicesOfOthersLookLikeNone: another user's device and one that nobody has get the same answer and cost the same.
func TestDevicesOfOthersLookLikeNone(t *testing.T) {
	w := newRightsWorld(t)
	ask := func(device string) string {
		return w.cost(w.tokens["member"], "DeviceService/RevokeDevice", func() string { return `{"deviceId":"` + device + `"}` }, device)
	}
	w.same("devices", func() string { return ask("nowhere") }, func() string { return ask("elsewhere") })
}

// TestCursorsOpenNothing: a stream that names sessions which are not its user's is shown nothing of them, and is told the
// same of one that exists and of one that does not.
func TestCursorsOpenNothing(t *testing.T) {
	w := newRightsWorld(t)
	told := map[string]bool{}
	for _, id := range []string{w.group.id, w.theirs.id, w.direct["member"].id, uuid.NewString()} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		client := parleyv1connect.NewSyncServiceClient(http.DefaultClient, w.url)
		req := &parleyv1.SubscribeRequest{Cursors: []*parleyv1.Cursor{{SessionId: id, Seq: 0}}}
		ctx, info := connect.NewClientContext(ctx)
		info.RequestHeader().Set("Authorization", "Bearer "+w.tokens["stranger"])
		stream, err := client.Subscribe(ctx, req)
		require.NoError(t, err)
		for caught := false; !caught; {
			require.True(t, stream.Receive(), "%v", stream.Err())
			for _, e := range stream.Msg().GetEvents() {
				require.NotEqual(t, id, e.GetMessage().GetSessionId())
				if r := e.GetResync(); r.GetSessionId() == id {
					told[r.GetReason().String()] = true
				} else {
					require.NotContains(t, e.String(), id)
				}
				caught = caught || e.GetCaughtUp() != nil
			}
		}
		cancel()
		_ = stream.Close()
	}
	require.Equal(t, map[string]bool{"RESYNC_REASON_SESSION_UNAVAILABLE": true}, told)
}

// TestUnavailableUsersLookTheSame: a user who does not exist, one who is deactivated and one who has blocked the caller get
// the same answer, and cost the same.
func TestUnavailableUsersLookTheSame(t *testing.T) {
	w := newRightsWorld(t)
	w.must("newcomer", "RelationService/BlockUser", `{"userId":"owner"}`, nil)
	w.token("", "crowded", "phone")
	w.token("", "gone", "phone")
	w.must("", "AdminService/DeactivateUser", `{"userId":"gone"}`, nil)
	_, err := w.sql.Exec(t.Context(), `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT 'crowded', gen_random_uuid(), 1, 1, 1 FROM generate_series(1, $1)`, session.MaxSessions)
	require.NoError(t, err)
	for rpc, body := range map[string]string{
		"RelationService/RequestFriend":        `{"userId":"{X}"}`,
		"RelationService/RespondFriendRequest": `{"userId":"{X}","accept":true}`,
		"RelationService/RemoveFriend":         `{"userId":"{X}"}`,
		"RelationService/UnblockUser":          `{"userId":"{X}"}`,
		"SessionService/CreateSession":         `{"group":{},"memberIds":["{X}"]}`,
		"SessionService/AddMembers":            `{"sessionId":"` + w.group.id + `","userIds":["{X}"]}`,
		"SessionService/RemoveMember":          `{"sessionId":"` + w.group.id + `","userId":"{X}"}`,
		"SessionService/SetMemberRole":         `{"sessionId":"` + w.group.id + `","userId":"{X}","isMuted":true}`,
		"MessageService/SendMessage":           `{"peerUserId":"{X}","messageId":"{U}","content":{"text":{"body":"x"}}}`,
		"PresenceService/GetPresence":          `{"userIds":["{X}"]}`,
		"PresenceService/WatchPresence":        `{"userIds":["{X}"]}`,
	} {
		t.Run(rpc, func(t *testing.T) {
			ask := func(user string) func() string {
				return func() string {
					return w.cost(w.tokens["owner"], rpc, func() string {
						return strings.NewReplacer("{X}", user, "{U}", uuid.NewString()).Replace(body)
					}, user)
				}
			}
			all := []func() string{ask("nobody-at-all"), ask("newcomer"), ask("gone")}
			if rpc == "MessageService/SendMessage" { // who has no room for another session
				all = append(all, ask("crowded"))
			}
			w.same(rpc, all...)
		})
	}
}

// TestRightsDocument holds docs/rights.md against the table. PARLEY_PRINT_RIGHTS=1 writes it.
func TestRightsDocument(t *testing.T) {
	const path = "../../docs/rights.md"
	if os.Getenv("PARLEY_PRINT_RIGHTS") != "" {
		require.NoError(t, os.WriteFile(path, []byte(rightsDocument()), 0o600))
	}
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, rightsDocument(), string(raw), "make rights prints it anew")
}
