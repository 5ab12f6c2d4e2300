package model

import (
	"slices"

	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// message is an entry as everybody sees it. got is what a server showed: what only the server can know is learnt from it.
func (c *chat) message(seq int64, got *parleyv1.Message) *parleyv1.Message {
	e := c.at(seq)
	if e.id == "" {
		e.id = got.GetMessageId()
	}
	if e.at == nil {
		e.at = got.GetCreatedAt()
	}
	m := &parleyv1.Message{SessionId: c.id, Seq: seq, MessageId: e.id, SenderId: e.sender, SenderDeviceId: e.device,
		Type: e.kind, Content: e.content, ReplyToSeq: e.reply, CreatedAt: e.at}
	if e.recalledBy != 0 {
		m.Content, m.ReplyToSeq, m.IsDeleted = nil, 0, true
	}
	return m
}

// messageFor is an entry as one user reads it back.
func (c *chat) messageFor(user string, seq int64, got *parleyv1.Message) *parleyv1.Message {
	m := c.message(seq, got)
	m.State = &parleyv1.MessageState{IsRead: c.isRead(user, seq), IsDeleted: c.isDeleted(user, seq)}
	if m.State.GetIsDeleted() {
		m.Content, m.ReplyToSeq = nil, 0
	}
	return m
}

func (c *chat) membership(user string) *parleyv1.Membership {
	m := c.members[user]
	out := &parleyv1.Membership{JoinedSeq: m.joined, VisibleFromSeq: m.spans[len(m.spans)-1].from, LeftSeq: m.left,
		ReadSeq: m.readSeq, DeletedToSeq: m.deletedTo, IsMuted: m.muted, MarkedUnread: m.flag}
	if m.active {
		out.Role = m.role
	}
	return out
}

// session is a chat as one user sees it. got tells what only the server knows: epoch and time.
func (c *chat) session(user string, got *parleyv1.Session) *parleyv1.Session {
	m := c.members[user]
	out := &parleyv1.Session{SessionId: c.id, Kind: parleyv1.SessionKind_SESSION_KIND_GROUP, PeerUserId: c.peer(user),
		HeadSeq: c.last(user), Epoch: got.GetEpoch(), CreatedAt: got.GetCreatedAt(), Membership: c.membership(user),
		Unread: c.unread(user)}
	if c.direct {
		out.Kind = parleyv1.SessionKind_SESSION_KIND_DIRECT
	}
	if m.active {
		out.MemberCount = int32(c.count(func(*member) bool { return true })) //nolint:gosec // a few
		out.HistoryVisible, out.SendRole = c.history, plain
	}
	return out
}

// page is what ListMessages shows; after and before are -1 where they are not set.
func (c *chat) page(user string, after, before int64, limit int) (seqs []int64, more bool) {
	seqs = c.seen(user, max(after, 0))
	if before >= 0 {
		seqs = slices.DeleteFunc(seqs, func(seq int64) bool { return seq >= before })
	}
	if limit == 0 {
		limit = 50
	}
	if more = len(seqs) > limit; !more {
		return seqs, false
	}
	if after >= 0 {
		return seqs[:limit], true
	}
	return seqs[len(seqs)-limit:], true
}

// state is the event that tells a user's devices of a change.
func (c *chat) state(user string, made marks) *parleyv1.StateEvent {
	m := c.members[user]
	return &parleyv1.StateEvent{SessionId: c.id, ReadSeq: m.readSeq, DeletedToSeq: m.deletedTo, MarkedUnread: m.flag,
		Unread: c.unread(user), ReadSeqs: made.read, DeletedSeqs: made.deleted}
}

// tells reports whether an event says what want says; with reload it need not list the marks.
func tells(got, want *parleyv1.StateEvent) bool {
	if got.GetReload() {
		got, want = proto.CloneOf(got), proto.CloneOf(want)
		got.Reload, got.ReadSeqs, got.DeletedSeqs, want.ReadSeqs, want.DeletedSeqs = false, nil, nil, nil, nil
	}
	return proto.Equal(got, want)
}
