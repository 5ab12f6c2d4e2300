package session

import (
	"context"
	"time"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// GroupPatch is what to change of a group; nil leaves a field as it is.
type GroupPatch struct {
	Title          *string
	AvatarURL      *string
	HistoryVisible *bool
	SendRole       *Role
}

// Update changes title or settings of a group. It returns the seq of the entry, the present head when nothing changed, and
// the group as the actor sees it afterwards. Refusals: INVALID_FIELD, SESSION_UNAVAILABLE, DIRECT_SESSION, ROLE_TOO_LOW
// (below admin).
func (s *Service) Update(ctx context.Context, by Actor, id uuid.UUID, p GroupPatch) (seq int64, v View, err error) {
	if err := storableText(p.Title, p.AvatarURL); err != nil {
		return 0, v, err
	}
	seq, err = s.change(ctx, id, func(ctx context.Context, l Log) (int64, error) {
		return update(ctx, l, by, p, s.clock.Now())
	})
	if err != nil {
		return 0, v, err
	}
	v, err = s.Get(ctx, by.UserID, id)
	return seq, v, err
}

func update(ctx context.Context, l Log, by Actor, p GroupPatch, now time.Time) (int64, error) {
	s, _, err := enter(ctx, l, by, Update)
	if err != nil {
		return 0, err
	}
	changed, after := p.apply(s)
	if after == s {
		return s.LastSeq, nil
	}
	content := &parleyv1.Content{Kind: &parleyv1.Content_SessionChange{SessionChange: changed}}
	e, err := l.Append(ctx, by, content, now)
	if err != nil {
		return 0, err
	}
	return e.Seq, l.Update(ctx, after)
}

// apply returns the session after the patch, and what is different.
func (p GroupPatch) apply(s Session) (*parleyv1.SessionChange, Session) {
	ch := &parleyv1.SessionChange{}
	if p.Title != nil && *p.Title != s.Title {
		s.Title, ch.Title = *p.Title, p.Title
	}
	if p.AvatarURL != nil && *p.AvatarURL != s.AvatarURL {
		s.AvatarURL, ch.AvatarUrl = *p.AvatarURL, p.AvatarURL
	}
	if p.HistoryVisible != nil && *p.HistoryVisible != s.HistoryVisible {
		s.HistoryVisible, ch.HistoryVisible = *p.HistoryVisible, p.HistoryVisible
	}
	if p.SendRole != nil && *p.SendRole != s.SendRole {
		s.SendRole, ch.SendRole = *p.SendRole, parleyv1.MemberRole(*p.SendRole).Enum()
	}
	return ch, s
}

// OwnSettings are a member's own settings of a session; nil leaves a field as it is.
type OwnSettings struct {
	NotificationsMuted *bool
	Pinned             *bool
	Archived           *bool
}

// UpdateMembership changes the actor's own settings of a session and tells the actor's other devices: those of this node
// now, those of others when their node reads relation_change. No entry is made. Refusal: SESSION_UNAVAILABLE. The right to
// it, SetOwn, is in the statement that changes them.
func (s *Service) UpdateMembership(ctx context.Context, by Actor, id uuid.UUID, own OwnSettings) (Membership, error) {
	changed, ok, err := s.store.SetOwn(ctx, by.UserID, id, own)
	if err != nil {
		return Membership{}, err
	}
	if err := Authorize(SetOwn, Part{Known: ok, Active: ok}); err != nil {
		return Membership{}, err
	}
	v, err := s.Get(ctx, by.UserID, id)
	if err != nil {
		return Membership{}, err
	}
	if changed {
		s.notify.NotifyUser(by.UserID, by.DeviceID, &parleyv1.Event{Kind: &parleyv1.Event_Session{
			Session: &parleyv1.SessionEvent{Session: v.Proto(s.epoch.Current())},
		}})
	}
	return v.Member, nil
}
