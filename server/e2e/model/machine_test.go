package model

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// machine drives the server and the model side by side.
type machine struct {
	*world
	node    *node
	ctx     context.Context
	devices []*device
}

// people of one check; their ids differ from those of all others.
var (
	people  = []string{"ann", "bob", "cid", "dot"}
	gadgets = []string{"phone", "web"}
	checks  atomic.Int64
)

// Whatever people do in whatever order, answers, pages, counts, states and streams are what the definitions say.
func TestTheServerAgreesWithTheModel(t *testing.T) {
	n := run(t)
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t, n)
		defer m.close()
		t.Repeat(map[string]func(*rapid.T){
			"send": m.send, "send more": m.send, "send again": m.sendAgain, "send many": m.sendMany, "recall": m.recall,
			"create": m.create, "add": m.add, "leave": m.leave, "remove": m.remove, "standing": m.standing,
			"history": m.changeHistory, "block": m.block, "unblock": m.unblock,
			"mark read to": m.markReadTo, "mark read": m.markRead, "mark unread": m.markUnread,
			"delete to": m.deleteTo, "delete": m.deleteSeqs, "ack": m.ack,
			"connect": m.connect, "connect more": m.connect, "ack more": m.ack, "disconnect": m.disconnect, "pull": m.pull,
			"list messages": m.listMessages, "list states": m.listStates, "list readers": m.listReaders,
			"get unread": m.getUnread, "get session": m.getSession, "list sessions": m.listSessions,
			"": m.settle,
		})
		m.finish(t)
	})
}

func newMachine(t *rapid.T, n *node) *machine {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	m := &machine{world: &world{blocks: map[[2]string]bool{}}, node: n, ctx: ctx}
	prefix := fmt.Sprintf("%d-", checks.Add(1))
	for _, user := range people {
		m.users = append(m.users, prefix+user)
		for _, name := range gadgets {
			token, err := n.token(ctx, prefix+user, name)
			if err != nil {
				t.Fatal(err)
			}
			m.devices = append(m.devices, &device{api: n.api(token), user: prefix + user, name: name,
				acked: map[string]int64{}, known: map[string]int64{}})
		}
	}
	return m
}

func (m *machine) close() {
	for _, d := range m.devices {
		if d.live != nil {
			d.live.close()
		}
	}
}

// answered compares a call's answer with the reason that the model gives, and reports whether it went well.
func answered(t *rapid.T, err error, want parleyv1.ErrorReason) bool {
	got, code := reason(err)
	if got != want || code != codes[want] || (err == nil) != (want == none) {
		t.Fatalf("want %v (%v), got %v (%v): %v", want, codes[want], got, code, err)
	}
	return err == nil
}

// equal fails unless two values are equal.
func equal[T comparable](t *rapid.T, what string, want, got T) {
	if want != got {
		t.Fatalf("%s: want %v, got %v", what, want, got)
	}
}

// settle waits until every live device was shown all that it must be shown; what it must not be shown fails on the way.
func (m *machine) settle(t *rapid.T) {
	for _, d := range m.devices {
		if d.live == nil {
			continue
		}
		for _, c := range m.chats {
			if c.members[d.user] != nil && (c.in(d.user) || d.live.tracks[c.id] != nil) {
				d.settled(t, m.world, fmt.Sprintf("%s %d", c.id, c.last(d.user)), func() bool { return d.complete(c) })
			}
		}
		d.settled(t, m.world, "nothing", func() bool { return true })
		d.live.recent = nil
	}
}

// finish lets anything that is still on its way arrive: after one more message in each chat and a signal behind it, every
// live device must have been shown exactly what the model says. Then it comes back and is told the rest.
func (m *machine) finish(t *rapid.T) {
	for _, c := range m.chats {
		for _, d := range m.devices {
			if _, _, why := m.judge(d, message{session: c.id, id: "last"}, c.head()); why == none {
				m.sendAs(t, d, message{session: c.id, id: uuid.NewString(), body: "the last one"})
				break
			}
		}
	}
	m.settle(t)
	for _, d := range m.devices {
		if d.live != nil {
			m.goOffline(d)
		}
		m.open(t, d, &parleyv1.SubscribeRequest{})
	}
	m.settle(t)
}

// told waits until the other live devices of a user got an event that ok accepts in this step.
func (m *machine) told(t *rapid.T, user, except, what string, ok func(*parleyv1.Event) bool) {
	for _, d := range m.devices {
		if d.user != user || d.name == except || d.live == nil {
			continue
		}
		d.settled(t, m.world, what, func() bool {
			for _, ev := range d.live.recent {
				if ok(ev) {
					return true
				}
			}
			return false
		})
	}
}

// What steps are made of. Mostly they are sensible, sometimes not.

func (m *machine) device(t *rapid.T) *device {
	return m.devices[rapid.IntRange(0, len(m.devices)-1).Draw(t, "device")]
}

func (m *machine) user(t *rapid.T) string {
	return rapid.SampledFrom(append(m.users[:len(m.users):len(m.users)], "nobody")).Draw(t, "user")
}

// someChat returns one of the chats, and rarely nil and an id that nothing has.
func (m *machine) someChat(t *rapid.T) (*chat, string) {
	if len(m.chats) == 0 {
		t.Skip("no chats")
	}
	if rapid.IntRange(0, 19).Draw(t, "unknown chat") == 19 {
		return nil, uuid.NewString()
	}
	c := m.chats[rapid.IntRange(0, len(m.chats)-1).Draw(t, "chat")]
	return c, c.id
}

// seq is one around what there is.
func seq(t *rapid.T, c *chat) int64 {
	if c == nil {
		return 1
	}
	return rapid.Int64Range(1, c.head()+1).Draw(t, "seq")
}

func seqs(t *rapid.T, c *chat) []int64 {
	if c == nil {
		return []int64{1}
	}
	beyond := int64(0)
	if rapid.IntRange(0, 5).Draw(t, "beyond") == 5 {
		beyond = 1
	}
	return rapid.SliceOfN(rapid.Int64Range(max(1, c.head()-6), c.head()+beyond), 1, 4).Draw(t, "seqs")
}
