package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// chat starts a chat in line mode and waits until it is connected.
func (n *node) chat(t *testing.T, as, with string, args ...string) *running {
	t.Helper()
	r := start(t, n.env[1:2], n.client(append([]string{"chat", "--as", as, "--with", with}, args...)...)...)
	r.notes.wait(t, "* connected")
	return r
}

// group makes a group over REST and returns its id.
func (n *node) group(t *testing.T, token string, members ...string) string {
	t.Helper()
	quoted := `"` + strings.Join(members, `","`) + `"`
	return n.call(t, token, "SessionService/CreateSession", `{"group":{"title":"team"},"memberIds":[`+quoted+`]}`, "sessionId")
}

func TestChat(t *testing.T) {
	n := newNode(t)
	server := n.serve(t)
	n.user(t, "bob")
	alice, bob := n.chat(t, "alice", "bob"), n.chat(t, "bob", "alice")

	alice.say(t, "hello \x1b[31mbob")
	bob.out.wait(t, "alice: hello \uFFFD[31mbob\n")
	alice.out.wait(t, "alice: hello")
	alice.notes.wait(t, "#1 read by bob")
	bob.say(t, "hello alice")
	alice.out.wait(t, "bob: hello alice\n")
	bob.say(t, "a slip")
	bob.say(t, "/recall")
	alice.notes.wait(t, "* bob recalled #3\n")
	bob.say(t, "/who")
	bob.notes.wait(t, "* alice, has read up to #")
	bob.say(t, "/nonsense")
	bob.notes.wait(t, "there is no /nonsense")
	bob.say(t, "//slashed")
	alice.out.wait(t, "bob: /slashed\n")

	// Another device of the same user shows the conversation, and what is said on the first.
	other := n.chat(t, "alice", "bob", "--device", "phone")
	other.out.wait(t, "bob: (recalled)\nbob: /slashed\n")
	alice.say(t, "from the first")
	other.out.wait(t, "alice: from the first\n")

	if !testing.Short() {
		// What is entered while the server is away is sent when it is back, once and in order.
		server.signal(t, syscall.SIGTERM)
		require.NoError(t, server.end(t))
		alice.notes.wait(t, "* connection lost")
		alice.say(t, "one")
		alice.say(t, "two")
		n.serve(t)
		bob.out.wait(t, "alice: one\nalice: two\n")
	}

	for _, r := range []*running{alice, bob, other} {
		r.say(t, "/quit")
		require.NoError(t, r.end(t))
	}
	late, err := once(t, n.env[1:2], n.client("chat", "--as", "bob", "--with", "alice")...)
	require.NoError(t, err)
	require.Contains(t, late, "bob: (recalled)\n")
	require.NotContains(t, late, "slip")
}

// Two talk, the server is killed in the middle, twice: both see the same conversation, whole and without repeats.
func TestChatSurvivesKills(t *testing.T) {
	n := newNode(t)
	server := n.serve(t)
	n.user(t, "bob")
	chats := map[string]*running{"alice": n.chat(t, "alice", "bob"), "bob": n.chat(t, "bob", "alice")}
	said := 0
	say := func(count int) {
		for range count {
			said++
			for name, r := range chats {
				r.say(t, fmt.Sprintf("%s says %d.", name, said))
			}
		}
	}
	kills := 2
	if testing.Short() {
		kills = 1
	}
	for range kills {
		say(15)
		chats["bob"].out.wait(t, fmt.Sprintf("alice says %d.", said-7)) // the rest is under way
		server.signal(t, syscall.SIGKILL)
		require.Error(t, server.end(t))
		say(15)
		server = n.serve(t)
		say(5)
		for _, r := range chats {
			for name := range chats {
				r.out.wait(t, fmt.Sprintf("%s: %s says %d.\n", name, name, said))
			}
		}
	}
	for name, r := range chats {
		r.say(t, "/quit")
		require.NoError(t, r.end(t), name)
	}
	seen := chats["alice"].out.String()
	require.Equal(t, seen, chats["bob"].out.String(), "both see one conversation in one order")
	for name := range chats {
		var want, got []string
		for i := range said {
			want = append(want, fmt.Sprintf("%s: %s says %d.", name, name, i+1))
		}
		for line := range strings.Lines(seen) {
			if strings.HasPrefix(line, name+": ") {
				got = append(got, strings.TrimSuffix(line, "\n"))
			}
		}
		require.Equal(t, want, got)
	}
}

func TestChatInAGroup(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	token := n.user(t, "carol")
	n.user(t, "alice")
	id := n.group(t, token, "alice")
	alice := start(t, n.env[1:2], n.client("chat", "--as", "alice", "--session", id)...)
	alice.notes.wait(t, "* connected")
	alice.notes.wait(t, "* carol started the group with carol, alice")
	carol := start(t, []string{"PARLEY_TOKEN=" + token}, n.client("chat", "--session", id)...)
	carol.notes.wait(t, "* connected")
	alice.say(t, "hi all")
	carol.out.wait(t, "alice: hi all\n")
	alice.notes.wait(t, "read by carol")
	carol.say(t, "/who")
	carol.notes.wait(t, "* carol, owner, ")
	// Being removed is the last thing that is shown.
	n.call(t, token, "SessionService/RemoveMember", `{"sessionId":"`+id+`","userId":"alice"}`, "seq")
	alice.notes.wait(t, "* carol removed alice")
	alice.say(t, "still here?")
	alice.notes.wait(t, "* not sent: ")
}

// A script pipes its lines in; the program ends when all are sent.
func TestChatInAPipe(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	n.user(t, "bob")
	r := start(t, n.env[1:2], n.client("chat", "--as", "alice", "--with", "bob")...)
	for i := range 20 {
		r.say(t, fmt.Sprint("line ", i))
	}
	require.NoError(t, r.in.Close())
	require.NoError(t, r.end(t))
	require.Equal(t, 20, strings.Count(r.out.String(), "alice: line "))

	out, err := once(t, []string{"PARLEY_TOKEN=" + n.user(t, "bob")}, n.client("chat", "--with", "alice", "--history", "3")...)
	require.NoError(t, err, out)
	require.Contains(t, out, "alice: line 17\nalice: line 18\nalice: line 19\n")
	require.NotContains(t, out, "line 16")
}

// A newer chat of the same device ends the older one, which does not fight back.
func TestChatIsDisplaced(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	n.user(t, "bob")
	first := n.chat(t, "alice", "bob")
	second := n.chat(t, "alice", "bob")
	require.Error(t, first.end(t))
	require.Contains(t, first.notes.String(), "another chat took over this device")
	second.say(t, "here")
	second.out.wait(t, "alice: here\n")
}

func TestChatRefusals(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	key := n.env[1:2]
	bob := n.user(t, "bob")
	for name, c := range map[string]struct {
		env  []string
		args []string
		says string
	}{
		"nobody":      {key, []string{"--with", "bob"}, "--as"},
		"with nobody": {key, []string{"--as", "alice"}, "--with"},
		"oneself":     {key, []string{"--as", "alice", "--with", "alice"}, "yourself"},
		"other token": {[]string{"PARLEY_TOKEN=" + bob}, []string{"--as", "alice", "--with", "carol"}, "for bob"},
		"no token":    {[]string{"PARLEY_TOKEN=x"}, []string{"--with", "alice"}, "no token"},
		"bad token":   {[]string{"PARLEY_TOKEN=" + bob[:len(bob)-8] + "AAAAAAAA"}, []string{"--with", "alice"}, "signature"},
		"no key":      {nil, []string{"--as", "alice", "--with", "bob"}, "admin key"},
		"wrong key":   {[]string{"PARLEY_ADMIN_KEY=" + strings.Repeat("x", 32)}, []string{"--as", "alice", "--with", "bob"}, "API key"},
		"no session":  {key, []string{"--as", "alice", "--session", "01890a5d-ac96-774b-bcce-b302099a8057"}, "no such session"},
		"no UUID":     {key, []string{"--as", "alice", "--session", "x"}, "no UUID"},
		"no number":   {key, []string{"--as", "alice", "--with", "bob", "--history", "0"}, "--history"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := once(t, c.env, n.client(append([]string{"chat"}, c.args...)...)...)
			require.Error(t, err)
			require.Contains(t, out, c.says)
			require.NotContains(t, out, bob)
		})
	}
	out, err := once(t, key, "chat", "--as", "alice", "--with", "bob", "--server", n.addr)
	require.Error(t, err)
	require.Contains(t, out, "http://")
}

// Chatting with somebody who does not exist makes nobody, and says so.
func TestChatWithAStranger(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	r := start(t, n.env[1:2], n.client("chat", "--as", "alice", "--with", "nobody")...)
	r.say(t, "hello?")
	r.notes.wait(t, "* not sent: nobody cannot be reached")
	require.NoError(t, r.in.Close())
	require.Error(t, r.end(t), "a script must see that it failed")
	require.Empty(t, r.out.String())

	// Once there is such a user, it works: the refusal is not remembered.
	n.user(t, "nobody")
	again := n.chat(t, "alice", "nobody")
	again.say(t, "hello!")
	again.out.wait(t, "alice: hello!\n")
}
