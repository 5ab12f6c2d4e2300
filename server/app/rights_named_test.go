package app

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// naming is an rpc that names a user, as an owner of a group calls it, or with admin the app's server.
type naming struct {
	rpc  string
	what string
	body string // {X} the user, {S} the group, {U} a new UUID, {seq} of a message of the user's in the group
	// answers where the user is an active one, has blocked the caller, is deactivated, and does not exist. Members of the
	// group are the first three, or none of them where apart.
	answers string
	apart   bool
	admin   bool
}

// named are all rpcs that name a user.
var named = []naming{
	{rpc: "RelationService/RequestFriend", body: `{"userId":"{X}"}`, answers: ".XXX"},
	{rpc: "RelationService/RespondFriendRequest", body: `{"userId":"{X}","accept":true}`, answers: "FFFF"},
	{rpc: "RelationService/RemoveFriend", body: `{"userId":"{X}"}`, answers: "...."},
	{rpc: "RelationService/UnblockUser", body: `{"userId":"{X}"}`, answers: "...."},
	{rpc: "SessionService/CreateSession", body: `{"group":{},"memberIds":["{X}"]}`, answers: ".UUU", apart: true},
	{rpc: "SessionService/AddMembers", what: "who is one", body: `{"sessionId":"{S}","userIds":["{X}"]}`, answers: "...U"},
	{rpc: "SessionService/RemoveMember", what: "who is none", body: `{"sessionId":"{S}","userId":"{X}"}`, answers: "UUUU", apart: true},
	{rpc: "SessionService/AddMembers", what: "who is none", body: `{"sessionId":"{S}","userIds":["{X}"]}`, answers: ".UUU", apart: true},
	{rpc: "SessionService/SetMemberRole", what: "mute a member", body: `{"sessionId":"{S}","userId":"{X}","isMuted":true}`, answers: "...U"},
	{rpc: "SessionService/SetMemberRole", what: "make a member admin", body: `{"sessionId":"{S}","userId":"{X}","role":"MEMBER_ROLE_ADMIN"}`, answers: "...U"},
	{rpc: "MessageService/RecallMessage", what: "of a member", body: `{"sessionId":"{S}","seq":"{seq}"}`, answers: "..."},
	{rpc: "SessionService/RemoveMember", what: "who is one", body: `{"sessionId":"{S}","userId":"{X}"}`, answers: "...U"},
	{rpc: "MessageService/SendMessage", what: "for the first time", body: `{"peerUserId":"{X}","messageId":"{U}","content":{"text":{"body":"x"}}}`, answers: ".XXX"},
	{rpc: "PresenceService/GetPresence", body: `{"userIds":["{X}"]}`, answers: "...."},
	{rpc: "PresenceService/WatchPresence", body: `{"userIds":["{X}"]}`, answers: "...."},
	{rpc: "RelationService/BlockUser", body: `{"userId":"{X}"}`, answers: "...U"}, // last: it ends what is above
	{rpc: "AdminService/CreateToken", body: `{"userId":"{X}","deviceId":"d"}`, answers: "..A.", admin: true},
	{rpc: "AdminService/DeactivateUser", body: `{"userId":"{X}"}`, answers: "...U", admin: true},
	{rpc: "AdminService/UpsertUser", body: `{"userId":"{X}"}`, answers: "....", admin: true},
}

// TestRightsOverUsers calls every rpc that names a user with users of every kind.
func TestRightsOverUsers(t *testing.T) {
	have := map[string]bool{}
	for _, n := range named {
		have[n.rpc] = true
	}
	for _, r := range table { // what names somebody beside the caller in another row is here too
		if strings.Contains(r.body, `"userId":`) || strings.Contains(r.body, `"userIds":`) || strings.Contains(r.body, `"memberIds":`) {
			require.True(t, have[r.rpc], r.rpc)
		}
	}
	w := newRightsWorld(t)
	inside, outside := []string{"friendly", "blocking", "gone"}, []string{"friendly2", "blocking2", "gone2"}
	for _, user := range append(append([]string{}, inside...), outside...) {
		w.token(user, user, "phone")
	}
	g := w.newGroup("owner", inside...)
	w.must("blocking", "RelationService/BlockUser", `{"userId":"owner"}`, nil)
	w.must("blocking2", "RelationService/BlockUser", `{"userId":"owner"}`, nil)
	w.must("", "AdminService/DeactivateUser", `{"userId":"gone"}`, nil)
	w.must("", "AdminService/DeactivateUser", `{"userId":"gone2"}`, nil)
	for i, n := range named {
		for at, want := range []byte(n.answers) {
			user := fmt.Sprint("nobody-at-all-", i) // CreateToken and UpsertUser make them
			if users := map[bool][]string{false: inside, true: outside}[n.apart]; at < len(users) {
				user = users[at]
			}
			bearer := w.tokens["owner"]
			if n.admin {
				bearer = w.key
			}
			got, answer := w.call(bearer, n.rpc, strings.NewReplacer("{X}", user, "{S}", g.id, "{U}", uuid.NewString(),
				"{seq}", fmt.Sprint(g.seqs[user])).Replace(n.body))
			if got != answers[want] {
				t.Errorf("%s of %s: %s, not %s: %s", n.name(), user, got, answers[want], answer)
			}
		}
	}
}

func (n naming) name() string { return row{rpc: n.rpc, what: n.what}.name() }

// namedDocument is the last part of docs/rights.md.
func namedDocument() string {
	var b strings.Builder
	b.WriteString(`
## Over a user

What rpcs that name a user answer to an owner of the group that is meant, where one is. A user who does not exist, one who is
deactivated and one who has blocked the caller get the same answers where they are no members, to the same cost.

| rpc | an active user | who has blocked the caller | a deactivated user | nobody |
|---|---|---|---|---|
`)
	for _, n := range named {
		fmt.Fprintf(&b, "| %s |", n.name())
		for at := range 4 {
			answer := ""
			if at < len(n.answers) {
				answer = " " + answers[n.answers[at]]
			}
			b.WriteString(answer + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\nThere is no search over messages or users, so nothing can be found that way.\n")
	return b.String()
}
