package app

import (
	"fmt"
	"strings"
)

// Who may do what, written down by hand and not derived from the code: TestRights holds the running server against it, and
// docs/rights.md is printed from it.

// answers are what a call can end with, by the letter that stands for it below.
var answers = map[byte]string{
	'.': "OK",
	'S': "SESSION_UNAVAILABLE",
	'R': "ROLE_TOO_LOW",
	'M': "MUTED",
	'D': "DIRECT_SESSION",
	'N': "NOT_RECALLABLE",
	'L': "LAST_OWNER",
	'T': "SELF_TARGET",
	'X': "RECIPIENT_UNAVAILABLE",
	'G': "DEVICE_UNAVAILABLE",
	'F': "RELATION_UNAVAILABLE",
	'U': "USER_UNAVAILABLE",
	'A': "USER_DEACTIVATED",
}

// parts are somebody's parts in a group, in the order of the letters in row.group. blocked is a member whom another user
// has blocked, which is of no matter in groups; former was a member.
var parts = []string{"former", "blocked", "muted", "member", "admin", "owner"}

// row is an rpc as it is called in the matrix.
type row struct {
	rpc  string // service/method, without the package
	what string // of several rows of the same rpc: how they differ
	body string // {S} session, {U} a new UUID, {own} and {other} seqs of messages of the caller's and of another's, {self}, {H} a webhook
	// group are the answers to parts in a group of the caller's; who never was a member gets S. Empty: the rpc names no
	// session, and alone is the answer to every user.
	group string
	// direct are the answers in a direct session: to the caller, to a caller whom the other has blocked, and to one whose other
	// is deactivated.
	direct string
	alone  byte
	admin  bool // for the app's server only
	writes bool // where it succeeds the group is another one afterwards
	device bool // the caller's device may be unknown yet
	stream bool
}

var table = []row{
	{rpc: "RelationService/RequestFriend", body: `{"userId":"newcomer"}`, alone: '.'},
	{rpc: "RelationService/RespondFriendRequest", body: `{"userId":"other","accept":true}`, alone: 'F'},
	{rpc: "RelationService/RemoveFriend", body: `{"userId":"newcomer"}`, alone: '.'},
	{rpc: "RelationService/BlockUser", body: `{"userId":"other"}`, alone: '.'},
	{rpc: "RelationService/UnblockUser", body: `{"userId":"other"}`, alone: '.'},
	{rpc: "RelationService/ListRelations", body: `{}`, alone: '.'},

	{rpc: "DeviceService/RegisterDevice", body: `{}`, alone: '.', device: true},
	{rpc: "DeviceService/ListDevices", body: `{}`, alone: '.'},
	{rpc: "DeviceService/RevokeDevice", what: "own", body: `{"deviceId":"spare"}`, alone: '.'},
	{rpc: "DeviceService/RevokeDevice", what: "another user's", body: `{"deviceId":"elsewhere"}`, alone: 'G'},
	{rpc: "DeviceService/RevokeDevice", what: "no such", body: `{"deviceId":"nowhere"}`, alone: 'G'},

	{rpc: "SessionService/CreateSession", body: `{"group":{},"memberIds":["newcomer"]}`, alone: '.'},
	{rpc: "SessionService/ListSessions", body: `{"includeLeft":true}`, alone: '.'},
	{rpc: "SessionService/GetSession", body: `{"sessionId":"{S}"}`, group: "......", direct: "..."},
	{rpc: "SessionService/UpdateSession", body: `{"sessionId":"{S}","title":"{U}"}`, group: "SRRR..", direct: "DDD", writes: true},
	{rpc: "SessionService/AddMembers", body: `{"sessionId":"{S}","userIds":["newcomer"]}`, group: "SRRR..", direct: "DDD", writes: true},
	{rpc: "SessionService/RemoveMember", what: "a member", body: `{"sessionId":"{S}","userId":"victim"}`, group: "SRRR..", direct: "DDD", writes: true},
	{rpc: "SessionService/RemoveMember", what: "an admin", body: `{"sessionId":"{S}","userId":"admin2"}`, group: "SRRRR.", direct: "DDD", writes: true},
	{rpc: "SessionService/RemoveMember", what: "the owner", body: `{"sessionId":"{S}","userId":"owner"}`, group: "SRRRRT", direct: "DDD"},
	{rpc: "SessionService/LeaveSession", body: `{"sessionId":"{S}"}`, group: ".....L", direct: "DDD", writes: true},
	{rpc: "SessionService/SetMemberRole", what: "make a member admin", body: `{"sessionId":"{S}","userId":"victim","role":"MEMBER_ROLE_ADMIN"}`, group: "SRRRR.", direct: "DDD", writes: true},
	{rpc: "SessionService/SetMemberRole", what: "raise oneself", body: `{"sessionId":"{S}","userId":"{self}","role":"MEMBER_ROLE_OWNER"}`, group: "SRRRR.", direct: "DDD", writes: true},
	{rpc: "SessionService/SetMemberRole", what: "lower the last owner", body: `{"sessionId":"{S}","userId":"owner","role":"MEMBER_ROLE_MEMBER"}`, group: "SRRRRL", direct: "DDD", writes: true},
	{rpc: "SessionService/SetMemberRole", what: "mute a member", body: `{"sessionId":"{S}","userId":"victim","isMuted":true}`, group: "SRRR..", direct: "DDD", writes: true},
	{rpc: "SessionService/SetMemberRole", what: "mute an admin", body: `{"sessionId":"{S}","userId":"admin2","isMuted":true}`, group: "SRRRR.", direct: "DDD", writes: true},
	{rpc: "SessionService/SetMemberRole", what: "unmute oneself", body: `{"sessionId":"{S}","userId":"muted","isMuted":false}`, group: "SRRR..", direct: "DDD", writes: true},
	{rpc: "SessionService/UpdateMembership", body: `{"sessionId":"{S}","isPinned":true}`, group: "S.....", direct: "..."},
	{rpc: "SessionService/ListMembers", body: `{"sessionId":"{S}"}`, group: "S.....", direct: "..."},

	{rpc: "MessageService/SendMessage", body: `{"sessionId":"{S}","messageId":"{U}","content":{"text":{"body":"x"}}}`, group: "S.M...", direct: ".XX"},
	{rpc: "MessageService/SendMessages", body: `{"messages":[{"sessionId":"{S}","messageId":"{U}","content":{"text":{"body":"x"}}}]}`, group: "S.M...", direct: ".XX"},
	{rpc: "MessageService/RecallMessage", what: "one's own", body: `{"sessionId":"{S}","seq":"{own}"}`, group: "S.....", direct: "...", writes: true},
	{rpc: "MessageService/RecallMessage", what: "a member's", body: `{"sessionId":"{S}","seq":"{other}"}`, group: "SNNN..", direct: "NNN", writes: true},
	{rpc: "MessageService/ListMessages", body: `{"sessionId":"{S}"}`, group: "......", direct: "..."},
	{rpc: "MessageService/GetMessage", body: `{"sessionId":"{S}","seq":"{other}"}`, group: "......", direct: "..."},

	{rpc: "StateService/MarkRead", body: `{"sessionId":"{S}","upToSeq":"{other}"}`, group: "......", direct: "..."},
	{rpc: "StateService/MarkUnread", body: `{"sessionId":"{S}"}`, group: "......", direct: "..."},
	{rpc: "StateService/DeleteForMe", body: `{"sessionId":"{S}","seqs":["{other}"]}`, group: "......", direct: "..."},
	{rpc: "StateService/ListStates", body: `{"sessionId":"{S}"}`, group: "......", direct: "..."},
	{rpc: "StateService/ListReaders", body: `{"sessionId":"{S}","seq":"{other}"}`, group: "S.....", direct: "..."},
	{rpc: "StateService/GetUnread", body: `{}`, alone: '.'},
	{rpc: "StateService/GetUnread", what: "of a session, even of one that is not there", body: `{"sessionIds":["8f1d3c5a-2f5e-4c0b-9f53-6f2d5b1a7e90"]}`, alone: '.'},

	{rpc: "SyncService/Subscribe", body: `{}`, alone: '.', stream: true},
	{rpc: "SyncService/PullOffline", body: `{}`, alone: '.'},
	{rpc: "SyncService/Ack", body: `{"acks":[{"sessionId":"{S}","seq":"{other}"}]}`, group: "......", direct: "..."},
	{rpc: "SyncService/SendSignal", body: `{"sessionId":"{S}","signal":{"typing":{}}}`, group: "S.M...", direct: ".XX"},

	{rpc: "PresenceService/GetPresence", body: `{"userIds":["victim"]}`, alone: '.'},
	{rpc: "PresenceService/WatchPresence", body: `{"userIds":["victim"]}`, alone: '.'},

	{rpc: "AdminService/CreateToken", body: `{"userId":"victim","deviceId":"d"}`, admin: true},
	{rpc: "AdminService/UpsertUser", body: `{"userId":"victim"}`, admin: true},
	{rpc: "AdminService/DeactivateUser", body: `{"userId":"deactivated"}`, admin: true},
	{rpc: "AdminService/GetStats", body: `{}`, admin: true},
	{rpc: "AdminService/CreateWebhook", body: `{"url":"http://127.0.0.1:9/","eventTypes":["WEBHOOK_EVENT_TYPE_MESSAGE_CREATED"]}`, admin: true},
	{rpc: "AdminService/ListWebhooks", body: `{}`, admin: true},
	{rpc: "AdminService/UpdateWebhook", body: `{"webhookId":"{H}","description":"d"}`, admin: true},
	{rpc: "AdminService/DeleteWebhook", body: `{"webhookId":"{H}"}`, admin: true},
	{rpc: "AdminService/RotateWebhookSecret", body: `{"webhookId":"{H}"}`, admin: true},
	{rpc: "AdminService/ListWebhookDeliveries", body: `{"webhookId":"{H}"}`, admin: true},
	{rpc: "AdminService/ReplayWebhookDeliveries", body: `{"webhookId":"{H}"}`, admin: true},
	{rpc: "AdminService/TestWebhook", body: `{"webhookId":"{H}"}`, admin: true},
}

// outside are the callers whom the gate stops, of rpcs of users and of AdminService, and by what.
var outside = []struct{ caller, user, server string }{
	{"nobody", "TOKEN_MISSING", "API_KEY_INVALID"},
	{"a deactivated user", "USER_DEACTIVATED", "NOT_ALLOWED"},
	{"a revoked device", "DEVICE_REVOKED", "NOT_ALLOWED"},
	{"an unknown device", "DEVICE_REVOKED", "NOT_ALLOWED"},
	{"the admin key", "NOT_ALLOWED", "OK"},
	{"any user", "", "NOT_ALLOWED"},
}

// rightsDocument is docs/rights.md.
func rightsDocument() string {
	var b strings.Builder
	b.WriteString(`# Rights

Who may do what. This page is printed from the table that a test holds the running server against
(server/app/rights_table_test.go); ` + "`make rights`" + ` prints it anew. ` + "`server/session/authorize.go`" + ` decides, ` +
		"`parley_append`" + ` for
sends.

## Before anything else

| caller | rpcs of users | AdminService |
|---|---|---|
`)
	for _, o := range outside {
		user := o.user
		if user == "" {
			user = "as below"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", o.caller, user, o.server)
	}
	b.WriteString(`
An unknown device may call RegisterDevice, which makes it known. Every device of a user has the same rights.

## In a session

A session that does not exist and one that the caller never was in look the same, in code, text and in what is asked of
the database: SESSION_UNAVAILABLE. A former member reads what could be seen until the end. A group has an owner as long as
it has members, and nobody gives a role to themself. "blocked" is a user whom the other one of the direct session, or any
member of the group, has blocked.

| rpc | `)
	for _, p := range parts {
		b.WriteString(p + " | ")
	}
	b.WriteString("direct | direct, blocked | direct, other deactivated |\n|---|" + strings.Repeat("---|", len(parts)+3) + "\n")
	for _, r := range table {
		if r.group == "" {
			continue
		}
		fmt.Fprintf(&b, "| %s |", r.name())
		for _, c := range []byte(r.group + r.direct) {
			fmt.Fprintf(&b, " %s |", answers[c])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Without a session\n\n| rpc | answer to every user |\n|---|---|\n")
	for _, r := range table {
		if r.group == "" && !r.admin {
			fmt.Fprintf(&b, "| %s | %s |\n", r.name(), answers[r.alone])
		}
	}
	b.WriteString(namedDocument())
	return b.String()
}

func (r row) name() string {
	_, method, _ := strings.Cut(r.rpc, "/")
	if r.what == "" {
		return method
	}
	return method + ": " + r.what
}
