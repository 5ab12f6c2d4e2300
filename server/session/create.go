package session

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
)

// Group is what can be set of a group. SendRole 0 means RoleMember.
type Group struct {
	Title          string
	AvatarURL      string
	HistoryVisible bool
	SendRole       Role
}

// Create makes a group owned by the actor and returns it. The actor and repeats in memberIDs are passed over. With a
// request (nil means none) repeating the call returns the group of the first, whatever else it asks for.
// Refusals: INVALID_FIELD, USER_UNAVAILABLE, GROUP_FULL, TOO_MANY_SESSIONS; then nothing is made.
func (s *Service) Create(ctx context.Context, by Actor, request *uuid.UUID, g Group, memberIDs []string) (View, error) {
	if err := storableText(&g.Title, &g.AvatarURL); err != nil {
		return View{}, err
	}
	id := NewID(s.clock.Now())
	if request != nil {
		id = RequestedID(by.UserID, *request)
	}
	members := distinct(append([]string{by.UserID}, memberIDs...))
	crowd, err := s.crowd(ctx, members)
	if err != nil {
		return View{}, err
	}
	err = s.log.Change(ctx, id, func(ctx context.Context, l Log) error {
		return create(ctx, l, by, id, g, members, crowd, s.clock.Now())
	})
	if err != nil {
		return View{}, err
	}
	return s.Get(ctx, by.UserID, id)
}

// create makes the group with its first entry. members begins with the actor.
func create(ctx context.Context, l Log, by Actor, id uuid.UUID, g Group, members []string, c crowd, now time.Time) error {
	if _, exists := l.Session(); exists {
		return nil
	}
	joining, err := admissible(ctx, l, by, Session{}, members, c)
	if err != nil {
		return err
	}
	err = l.Create(ctx, Session{
		ID: id, Kind: KindGroup, OwnerID: by.UserID, Title: g.Title, AvatarURL: g.AvatarURL,
		HistoryVisible: g.HistoryVisible, SendRole: max(g.SendRole, RoleMember), CreatedAt: now,
	})
	if err != nil {
		return err
	}
	e, err := l.Append(ctx, by, memberChange(parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_CREATED, 0, joining...), now)
	if err != nil {
		return err
	}
	if err := l.Join(ctx, joining[:1], RoleOwner, e.Seq, g.HistoryVisible); err != nil {
		return err
	}
	if len(joining) == 1 {
		return nil
	}
	return l.Join(ctx, joining[1:], RoleMember, e.Seq, g.HistoryVisible)
}

// lockedBelow is the bound on a user's sessions below which everybody who joins is locked. Half of a bound that is higher is
// more sessions than are being made of one user at any moment: a batch of messages, which holds the user's lock, and a
// few changes on each node.
const lockedBelow = 8192

// crowd is what was seen of the users' numbers of sessions before a session is locked.
type crowd struct {
	most int                 // how many sessions a user may be in
	near map[string]struct{} // who is in half as many or more; everybody where the bound is low
}

// crowd looks at that before the lock: it reads that many rows of each user. Under the lock all are counted again, those near
// the limit with their own rows locked too. So nobody passes it, and where the bound is high joining is not held up by what
// others do with the same users.
func (s *Service) crowd(ctx context.Context, userIDs []string) (c crowd, err error) {
	ids := userIDs
	if s.maxSessions >= lockedBelow {
		ids, err = s.store.Full(ctx, userIDs, s.maxSessions/2)
	}
	c = crowd{most: s.maxSessions, near: make(map[string]struct{}, len(ids))}
	for _, id := range ids {
		c.near[id] = struct{}{}
	}
	return c, err
}

// room refuses when one of the users is in too many sessions to come into another one.
func (c crowd) room(ctx context.Context, l Log, joining []string) error {
	var near []string
	for _, id := range joining {
		if _, ok := c.near[id]; ok {
			near = append(near, id)
		}
	}
	if len(joining) == 0 {
		return nil
	}
	full, err := l.Full(ctx, near, joining, c.most)
	if err != nil {
		return err
	}
	for _, id := range joining { // the first in the order of the request
		if slices.Contains(full, id) {
			return refusal.New(refusal.TooManySessions, "This user is in as many sessions as a user may be in.", "user_id", id)
		}
	}
	return nil
}

// admissible returns those of the users who are no members yet, in their order, when all of them may become members.
func admissible(ctx context.Context, l Log, by Actor, s Session, userIDs []string, c crowd) ([]string, error) {
	candidates, err := l.Candidates(ctx, by.UserID, userIDs)
	if err != nil {
		return nil, err
	}
	joining := make([]string, 0, len(candidates))
	for _, u := range candidates {
		if u.Member {
			continue
		}
		if !u.Available || u.Parts >= MaxParts && !s.HistoryVisible {
			return nil, userUnavailable(u.UserID)
		}
		joining = append(joining, u.UserID)
	}
	if int(s.MemberCount)+len(joining) > MaxMembers {
		return nil, groupFull
	}
	if err := c.room(ctx, l, joining); err != nil {
		return nil, err
	}
	return joining, nil
}

// distinct returns the ids without repeats, in the order of their first appearance.
func distinct(ids []string) []string {
	seen := make(map[string]struct{}, len(ids))
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		if _, again := seen[id]; !again {
			seen[id] = struct{}{}
			out = append(out, id)
		}
	}
	return out
}

// storableText refuses the one character that PostgreSQL cannot store in a text. nil stands for what is not set.
func storableText(title, avatarURL *string) error {
	for _, f := range []struct {
		name string
		text *string
	}{{"title", title}, {"avatar_url", avatarURL}} {
		if f.text != nil && strings.IndexByte(*f.text, 0) >= 0 {
			return refusal.New(refusal.InvalidField, "This text must not contain the character U+0000.",
				"field", f.name, "rule", "no_zero")
		}
	}
	return nil
}

func memberChange(kind parleyv1.MemberChangeKind, role Role, userIDs ...string) *parleyv1.Content {
	return &parleyv1.Content{Kind: &parleyv1.Content_MemberChange{MemberChange: &parleyv1.MemberChange{
		Kind: kind, UserIds: userIDs, Role: parleyv1.MemberRole(role),
	}}}
}
