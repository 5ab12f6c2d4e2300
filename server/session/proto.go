package session

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Proto returns the view as the API shows it, without the last message, which only reads carry.
func (v View) Proto(epoch string) *parleyv1.Session {
	s := v.Session
	return &parleyv1.Session{
		SessionId:      s.ID.String(),
		Kind:           parleyv1.SessionKind(s.Kind),
		Title:          s.Title,
		AvatarUrl:      s.AvatarURL,
		PeerUserId:     s.Peer(v.Member.UserID),
		HeadSeq:        v.Head(),
		Epoch:          epoch,
		MemberCount:    s.MemberCount,
		HistoryVisible: s.HistoryVisible,
		SendRole:       parleyv1.MemberRole(s.SendRole),
		CreatedAt:      timestamppb.New(s.CreatedAt),
		Membership:     v.Member.Proto(),
		Unread:         v.Unread,
	}
}

// Proto returns the membership as the API shows it to its user.
func (m Membership) Proto() *parleyv1.Membership {
	out := &parleyv1.Membership{
		JoinedSeq:          m.JoinedSeq,
		VisibleFromSeq:     m.VisibleFrom(),
		LeftSeq:            m.LeftSeq,
		ReadSeq:            m.ReadSeq,
		DeletedToSeq:       m.DeletedToSeq,
		IsMuted:            m.Muted,
		NotificationsMuted: m.NotificationsMuted,
		IsPinned:           m.Pinned,
		IsArchived:         m.Archived,
		MarkedUnread:       m.MarkedUnread,
	}
	if m.Active() {
		out.Role = parleyv1.MemberRole(m.Role)
	}
	return out
}

// Proto returns the member as the API shows it to others.
func (m Member) Proto() *parleyv1.Member {
	return &parleyv1.Member{
		UserId: m.UserID, DisplayName: m.DisplayName, Role: parleyv1.MemberRole(m.Role), JoinedSeq: m.JoinedSeq,
		ReadSeq: m.ReadSeq, IsMuted: m.Muted,
	}
}
