package model

import (
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

const (
	none  = parleyv1.ErrorReason_ERROR_REASON_UNSPECIFIED // the call must succeed
	plain = parleyv1.MemberRole_MEMBER_ROLE_MEMBER
	admin = parleyv1.MemberRole_MEMBER_ROLE_ADMIN
	owner = parleyv1.MemberRole_MEMBER_ROLE_OWNER
)

// world is everything that the model knows.
type world struct {
	users  []string // all that exist
	chats  []*chat
	blocks map[[2]string]bool // who, whom
}

// chat is a session that has entries.
type chat struct {
	id      string
	direct  bool
	history bool // who is added from now on sees the past
	log     []*entry
	members map[string]*member
}

// entry is one of a log; its seq is its place, counted from 1. id and at of entries that the server makes are learnt
// when they are first seen and must be the same ever after.
type entry struct {
	sender, device string
	kind           parleyv1.MessageType
	id             string
	content        *parleyv1.Content
	reply          int64
	recalledBy     int64
	at             *timestamppb.Timestamp
}

func (e *entry) countable() bool { return e.kind <= parleyv1.MessageType_MESSAGE_TYPE_CUSTOM }

// span is the seqs from <= seq <= to that one membership sees; to is 0 while it lasts.
type span struct{ from, to int64 }

// member is a user's part in a chat, kept after the end.
type member struct {
	spans         []span
	active, muted bool
	role          parleyv1.MemberRole
	joined, left  int64
	readSeq       int64
	deletedTo     int64
	flag          bool
	read, deleted map[int64]bool // single marks, never forgotten here
}

func (c *chat) head() int64           { return int64(len(c.log)) }
func (c *chat) at(seq int64) *entry   { return c.log[seq-1] }
func (c *chat) in(user string) bool   { m := c.members[user]; return m != nil && m.active }
func (w *world) exists(u string) bool { return slices.Contains(w.users, u) }

func (w *world) chat(id string) *chat {
	for _, c := range w.chats {
		if c.id == id {
			return c
		}
	}
	return nil
}

// direct returns the chat of two users, nil before its first message.
func (w *world) direct(a, b string) *chat {
	for _, c := range w.chats {
		if c.direct && c.members[a] != nil && c.members[b] != nil {
			return c
		}
	}
	return nil
}

// peer is the other one in a direct chat.
func (c *chat) peer(user string) string {
	for u := range c.members {
		if c.direct && u != user {
			return u
		}
	}
	return ""
}

func (c *chat) visible(user string, seq int64) bool {
	m := c.members[user]
	return m != nil && seq >= 1 && seq <= c.head() && slices.ContainsFunc(m.spans, func(s span) bool {
		return seq >= s.from && (s.to == 0 || seq <= s.to)
	})
}

// seen lists the visible seqs after one, ascending.
func (c *chat) seen(user string, after int64) (out []int64) {
	for seq := after + 1; seq <= c.head(); seq++ {
		if c.visible(user, seq) {
			out = append(out, seq)
		}
	}
	return out
}

// last is the last seq that the user can see, 0 for none.
func (c *chat) last(user string) int64 {
	if all := c.seen(user, 0); len(all) > 0 {
		return all[len(all)-1]
	}
	return 0
}

func (c *chat) append(e *entry) int64 {
	c.log = append(c.log, e)
	if m := c.members[e.sender]; e.countable() {
		m.readSeq, m.flag = c.head(), false
	}
	return c.head()
}

// event appends what the server writes about a change.
func (c *chat) event(d *device, content *parleyv1.Content) int64 {
	e := &entry{sender: d.user, device: d.name, content: content}
	switch content.GetKind().(type) {
	case *parleyv1.Content_Recall:
		e.kind = parleyv1.MessageType_MESSAGE_TYPE_RECALL
	case *parleyv1.Content_MemberChange:
		e.kind = parleyv1.MessageType_MESSAGE_TYPE_MEMBER_CHANGE
	case *parleyv1.Content_SessionChange:
		e.kind = parleyv1.MessageType_MESSAGE_TYPE_SESSION_CHANGE
	}
	return c.append(e)
}

func (c *chat) change(d *device, kind parleyv1.MemberChangeKind, role parleyv1.MemberRole, users ...string) int64 {
	return c.event(d, &parleyv1.Content{Kind: &parleyv1.Content_MemberChange{
		MemberChange: &parleyv1.MemberChange{Kind: kind, Role: role, UserIds: users}}})
}

func (c *chat) join(user string, seq int64, role parleyv1.MemberRole) {
	m := c.members[user]
	if m == nil {
		m = &member{read: map[int64]bool{}, deleted: map[int64]bool{}}
		c.members[user] = m
	}
	from := seq
	if c.history {
		from = 1
	}
	m.active, m.joined, m.left, m.role, m.muted = true, seq, 0, role, false
	m.spans = append(m.spans, span{from: from})
}

func (c *chat) end(user string, seq int64) {
	m := c.members[user]
	m.active, m.left = false, seq
	m.spans[len(m.spans)-1].to = seq
}

func (c *chat) count(ok func(*member) bool) (n int) {
	for _, m := range c.members {
		if m.active && ok(m) {
			n++
		}
	}
	return n
}
