package model

import (
	"slices"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// message is one to be sent: to a session or to a user.
type message struct {
	session, peer string
	id, body      string
	reply         int64
}

// judge says what a send must answer: a reason, or the entry that an earlier send with this id has made, or neither: then
// it makes one. head is the chat's when the call was made: nobody can know a seq that the same call makes.
func (w *world) judge(d *device, m message, head int64) (old *entry, seq int64, why parleyv1.ErrorReason) {
	if m.peer == d.user {
		return nil, 0, parleyv1.ErrorReason_ERROR_REASON_SELF_TARGET
	}
	c := w.target(d, m)
	if c == nil && m.peer == "" {
		return nil, 0, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
	}
	if c != nil {
		for i, e := range c.log {
			if e.id != m.id || e.sender != d.user || !e.countable() {
				continue
			}
			if e.content.GetText().GetBody() == m.body && e.reply == m.reply {
				return e, int64(i + 1), none
			}
			return nil, 0, parleyv1.ErrorReason_ERROR_REASON_MESSAGE_ID_REUSED
		}
		if !c.in(d.user) {
			return nil, 0, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
		}
		if c.members[d.user].muted {
			return nil, 0, parleyv1.ErrorReason_ERROR_REASON_MUTED
		}
	}
	if c == nil || c.direct {
		peer := m.peer
		if c != nil {
			peer = c.peer(d.user)
		}
		switch {
		case w.blocks[[2]string{d.user, peer}]:
			return nil, 0, parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_BLOCKED_BY_YOU
		case !w.exists(peer) || w.blocks[[2]string{peer, d.user}]:
			return nil, 0, parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_UNAVAILABLE
		}
	}
	if m.reply > 0 && (c == nil || m.reply > head || !c.visible(d.user, m.reply)) {
		return nil, 0, parleyv1.ErrorReason_ERROR_REASON_MESSAGE_UNAVAILABLE
	}
	return nil, 0, none
}

// target is the chat that a message goes to, nil when there is none (yet).
func (w *world) target(d *device, m message) *chat {
	if m.peer != "" {
		return w.direct(d.user, m.peer)
	}
	return w.chat(m.session)
}

// recallable says what stands against a recall.
func (c *chat) recallable(user string, seq int64) parleyv1.ErrorReason {
	if c == nil || !c.in(user) {
		return parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
	}
	if !c.visible(user, seq) {
		return parleyv1.ErrorReason_ERROR_REASON_MESSAGE_UNAVAILABLE
	}
	e, own := c.at(seq), c.members[user]
	sender := c.members[e.sender]
	switch {
	case !e.countable():
	case e.sender == user, !c.direct && own.role >= admin && (!sender.active || sender.role < own.role):
		return none
	}
	return parleyv1.ErrorReason_ERROR_REASON_NOT_RECALLABLE
}

// manage says what stands against changing a group's members.
func (c *chat) manage(user string) parleyv1.ErrorReason {
	switch {
	case c == nil || !c.in(user):
		return parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
	case c.direct:
		return parleyv1.ErrorReason_ERROR_REASON_DIRECT_SESSION
	}
	return none
}

// addable says which of the users would come in, or what stands against all of them.
func (w *world) addable(c *chat, by string, users []string) (joining []string, why parleyv1.ErrorReason) {
	for _, u := range users {
		switch {
		case c != nil && c.in(u) || slices.Contains(joining, u):
		case !w.exists(u) || w.blocks[[2]string{u, by}]:
			return nil, parleyv1.ErrorReason_ERROR_REASON_USER_UNAVAILABLE
		default:
			joining = append(joining, u)
		}
	}
	return joining, none
}

// removal says what a RemoveMember must answer: a reason, an earlier cut, or neither: then it makes one.
func (c *chat) removal(by, user string) (cut int64, why parleyv1.ErrorReason) {
	if why := c.manage(by); why != none {
		return 0, why
	}
	own, m := c.members[by], c.members[user]
	switch {
	case user == by:
		return 0, parleyv1.ErrorReason_ERROR_REASON_SELF_TARGET
	case own.role < admin:
		return 0, parleyv1.ErrorReason_ERROR_REASON_ROLE_TOO_LOW
	case m == nil:
		return 0, parleyv1.ErrorReason_ERROR_REASON_USER_UNAVAILABLE
	case !m.active:
		return m.left, none
	case own.role <= m.role:
		return 0, parleyv1.ErrorReason_ERROR_REASON_ROLE_TOO_LOW
	}
	return 0, none
}

// leaving is removal for LeaveSession.
func (c *chat) leaving(user string) (cut int64, why parleyv1.ErrorReason) {
	if c == nil || c.members[user] == nil {
		return 0, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
	}
	m := c.members[user]
	everybody := c.count(func(*member) bool { return true })
	owners := c.count(func(m *member) bool { return m.role == owner })
	switch {
	case c.direct:
		return 0, parleyv1.ErrorReason_ERROR_REASON_DIRECT_SESSION
	case !m.active:
		return m.left, none
	case m.role == owner && everybody > 1 && owners < 2:
		return 0, parleyv1.ErrorReason_ERROR_REASON_LAST_OWNER
	}
	return 0, none
}

// standing says what stands against giving a role (0: none) and then muting or unmuting (nil: neither).
func (c *chat) standing(by, user string, role parleyv1.MemberRole, muted *bool) parleyv1.ErrorReason {
	if why := c.manage(by); why != none {
		return why
	}
	own, m := c.members[by], c.members[user]
	if m == nil || !m.active {
		return parleyv1.ErrorReason_ERROR_REASON_USER_UNAVAILABLE
	}
	mine, theirs := own.role, m.role
	if role != 0 && role != theirs {
		owners := c.count(func(m *member) bool { return m.role == owner })
		switch {
		case mine < owner:
			return parleyv1.ErrorReason_ERROR_REASON_ROLE_TOO_LOW
		case theirs == owner && owners < 2:
			return parleyv1.ErrorReason_ERROR_REASON_LAST_OWNER
		}
		theirs = role
		if user == by {
			mine = role
		}
	}
	if muted != nil && *muted != m.muted && mine <= theirs {
		return parleyv1.ErrorReason_ERROR_REASON_ROLE_TOO_LOW
	}
	return none
}
