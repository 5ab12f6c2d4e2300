package model

import (
	"slices"

	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func (m *machine) create(t *rapid.T) {
	d := m.device(t)
	if len(m.chats) >= 5 {
		t.Skip("enough chats")
	}
	history := rapid.Bool().Draw(t, "history")
	members := rapid.SliceOfN(rapid.SampledFrom(m.users), 0, 4).Draw(t, "members")
	joining, why := m.addable(nil, d.user, append([]string{d.user}, members...))
	got, err := d.CreateSession(m.ctx, &parleyv1.CreateSessionRequest{
		Group: &parleyv1.Group{HistoryVisible: history}, MemberIds: members})
	if !answered(t, err, why) {
		return
	}
	c := &chat{id: got.GetSession().GetSessionId(), history: history, members: map[string]*member{}}
	c.change(d, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_CREATED, 0, joining...)
	for _, u := range joining {
		c.join(u, 1, plain)
	}
	c.members[d.user].role = owner
	m.chats = append(m.chats, c)
	same(t, c.session(d.user, got.GetSession()), got.GetSession())
	m.welcomed(t, c, joining)
}

// welcomed waits until the live devices of users got the session that is new to them.
func (m *machine) welcomed(t *rapid.T, c *chat, users []string) {
	for _, u := range users {
		m.told(t, u, "", "the session "+c.id, func(ev *parleyv1.Event) bool {
			s := ev.GetSession().GetSession()
			return s.GetSessionId() == c.id && s.GetMembership().GetJoinedSeq() == c.members[u].joined
		})
	}
}

func (m *machine) add(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	users := rapid.SliceOfN(rapid.SampledFrom(append(m.users[:len(m.users):len(m.users)], "nobody")), 1, 2).Draw(t, "users")
	if c != nil && !c.direct && rapid.Bool().Draw(t, "by an owner") {
		d = m.ownerOf(t, c)
	}
	why := c.manage(d.user)
	var joining []string
	if why == none && c.members[d.user].role < admin {
		why = parleyv1.ErrorReason_ERROR_REASON_ROLE_TOO_LOW
	} else if why == none {
		joining, why = m.addable(c, d.user, users)
	}
	got, err := d.AddMembers(m.ctx, &parleyv1.AddMembersRequest{SessionId: id, UserIds: users})
	if !answered(t, err, why) {
		return
	}
	if len(joining) == 0 {
		equal(t, "head", c.head(), got.GetSeq())
		return
	}
	seq := c.change(d, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ADDED, plain, joining...)
	equal(t, "seq", seq, got.GetSeq())
	for _, u := range joining {
		c.join(u, seq, plain)
	}
	m.welcomed(t, c, joining)
}

// ownerOf returns a device of an owner, if there is one.
func (m *machine) ownerOf(t *rapid.T, c *chat) *device {
	for _, d := range m.devices {
		if c.in(d.user) && c.members[d.user].role == owner {
			return d
		}
	}
	return m.device(t)
}

func (m *machine) leave(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	cut, why := c.leaving(d.user)
	got, err := d.LeaveSession(m.ctx, &parleyv1.LeaveSessionRequest{SessionId: id})
	if !answered(t, err, why) {
		return
	}
	if cut == 0 {
		cut = c.change(d, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_LEFT, 0, d.user)
		c.end(d.user, cut)
	}
	equal(t, "cut", cut, got.GetSeq())
}

func (m *machine) remove(t *rapid.T) {
	d, user := m.device(t), m.user(t)
	c, id := m.someChat(t)
	if c != nil && !c.direct && rapid.Bool().Draw(t, "by an owner") {
		d = m.ownerOf(t, c)
	}
	cut, why := c.removal(d.user, user)
	got, err := d.RemoveMember(m.ctx, &parleyv1.RemoveMemberRequest{SessionId: id, UserId: user})
	if !answered(t, err, why) {
		return
	}
	if cut == 0 {
		cut = c.change(d, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_REMOVED, 0, user)
		c.end(user, cut)
	}
	equal(t, "cut", cut, got.GetSeq())
}

// standing gives a role, mutes or unmutes, or both.
func (m *machine) standing(t *rapid.T) {
	d, user := m.device(t), m.user(t)
	c, id := m.someChat(t)
	if c != nil && !c.direct && rapid.Bool().Draw(t, "by an owner") {
		d = m.ownerOf(t, c)
	}
	role := rapid.SampledFrom([]parleyv1.MemberRole{0, 0, plain, admin, owner}).Draw(t, "role")
	muted := rapid.SampledFrom([]*bool{nil, new(true), new(true), new(false)}).Draw(t, "muted")
	why := c.standing(d.user, user, role, muted)
	got, err := d.SetMemberRole(m.ctx, &parleyv1.SetMemberRoleRequest{SessionId: id, UserId: user, Role: role, IsMuted: muted})
	if !answered(t, err, why) {
		return
	}
	member := c.members[user]
	if role != 0 && role != member.role {
		c.change(d, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ROLE_CHANGED, role, user)
		member.role = role
	}
	if muted != nil && *muted != member.muted {
		kind := parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_UNMUTED
		if *muted {
			kind = parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_MUTED
		}
		c.change(d, kind, 0, user)
		member.muted = *muted
	}
	equal(t, "seq", c.head(), got.GetSeq())
}

// changeHistory says whether who is added from now on sees the past.
func (m *machine) changeHistory(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	history := rapid.Bool().Draw(t, "history")
	why := c.manage(d.user)
	if why == none && c.members[d.user].role < admin {
		why = parleyv1.ErrorReason_ERROR_REASON_ROLE_TOO_LOW
	}
	got, err := d.UpdateSession(m.ctx, &parleyv1.UpdateSessionRequest{SessionId: id, HistoryVisible: &history})
	if !answered(t, err, why) {
		return
	}
	if history != c.history {
		c.event(d, &parleyv1.Content{Kind: &parleyv1.Content_SessionChange{
			SessionChange: &parleyv1.SessionChange{HistoryVisible: &history}}})
		c.history = history
	}
	equal(t, "seq", c.head(), got.GetSeq())
	same(t, c.session(d.user, got.GetSession()), got.GetSession())
}

func (m *machine) block(t *rapid.T) {
	d, user := m.device(t), m.user(t)
	_, err := d.BlockUser(m.ctx, &parleyv1.BlockUserRequest{UserId: user})
	switch {
	case user == d.user:
		answered(t, err, parleyv1.ErrorReason_ERROR_REASON_SELF_TARGET)
	case !slices.Contains(m.users, user):
		answered(t, err, parleyv1.ErrorReason_ERROR_REASON_USER_UNAVAILABLE)
	default:
		answered(t, err, none)
		m.related(t, d, user, true)
	}
}

func (m *machine) unblock(t *rapid.T) {
	d, user := m.device(t), m.user(t)
	_, err := d.UnblockUser(m.ctx, &parleyv1.UnblockUserRequest{UserId: user})
	if user == d.user {
		answered(t, err, parleyv1.ErrorReason_ERROR_REASON_SELF_TARGET)
		return
	}
	answered(t, err, none)
	m.related(t, d, user, false)
}

// related notes a block or its end and waits until the user's other devices know.
func (m *machine) related(t *rapid.T, d *device, user string, blocked bool) {
	key := [2]string{d.user, user}
	if m.blocks[key] == blocked {
		return
	}
	m.blocks[key] = blocked
	want := parleyv1.RelationKind_RELATION_KIND_UNSPECIFIED
	if blocked {
		want = parleyv1.RelationKind_RELATION_KIND_BLOCKED
	}
	m.told(t, d.user, d.name, "the relation to "+user, func(ev *parleyv1.Event) bool {
		r := ev.GetRelation().GetRelation()
		return r.GetUserId() == user && r.GetKind() == want
	})
}
