package session

import (
	"context"
	"time"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
)

// AddMembers makes users members of a group, all of them or, with a refusal, none, and returns the seq of the entry by
// which they came in. Members and repeats are passed over; the present head is returned when nobody is left to add.
// Refusals: SESSION_UNAVAILABLE, DIRECT_SESSION, ROLE_TOO_LOW (below admin), USER_UNAVAILABLE (somebody who sees MaxParts
// of a group that hides its past, too), GROUP_FULL, TOO_MANY_SESSIONS.
func (s *Service) AddMembers(ctx context.Context, by Actor, id uuid.UUID, userIDs []string) (seq int64, err error) {
	userIDs = distinct(userIDs)
	crowd, err := s.crowd(ctx, userIDs)
	if err != nil {
		return 0, err
	}
	return s.change(ctx, id, func(ctx context.Context, l Log) (int64, error) {
		return addMembers(ctx, l, by, userIDs, crowd, s.clock.Now())
	})
}

func addMembers(ctx context.Context, l Log, by Actor, userIDs []string, c crowd, now time.Time) (int64, error) {
	s, _, err := enter(ctx, l, by, Add)
	if err != nil {
		return 0, err
	}
	joining, err := admissible(ctx, l, by, s, userIDs, c)
	if err != nil || len(joining) == 0 {
		return s.LastSeq, err
	}
	e, err := l.Append(ctx, by,
		memberChange(parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ADDED, RoleMember, joining...), now)
	if err != nil {
		return 0, err
	}
	return e.Seq, l.Join(ctx, joining, RoleMember, e.Seq, s.HistoryVisible)
}

var selfRemoval = refusal.New(refusal.SelfTarget, "Nobody removes themself; leave the session instead.", "field", "user_id")

// RemoveMember ends somebody else's membership of a group and returns the cut: the seq of the entry that says so, the last
// one that the user sees. Who is removed already, or has left, stays cut where they were. Refusals: SESSION_UNAVAILABLE,
// DIRECT_SESSION, SELF_TARGET, ROLE_TOO_LOW (below admin, or not above the member), USER_UNAVAILABLE (never a member).
func (s *Service) RemoveMember(ctx context.Context, by Actor, id uuid.UUID, userID string) (cut int64, err error) {
	return s.change(ctx, id, func(ctx context.Context, l Log) (int64, error) {
		return removeMember(ctx, l, by, userID, s.clock.Now())
	})
}

func removeMember(ctx context.Context, l Log, by Actor, userID string, now time.Time) (int64, error) {
	s, own, err := enter(ctx, l, by, Manage)
	if err != nil {
		return 0, err
	}
	if userID == by.UserID {
		return 0, selfRemoval
	}
	if err := Authorize(Remove, own.PartIn(s)); err != nil {
		return 0, err
	}
	target, known, err := l.Member(ctx, userID)
	switch {
	case err != nil:
		return 0, err
	case !known:
		return 0, userUnavailable(userID)
	case !target.Active():
		return target.LeftSeq, nil
	}
	if err := AuthorizeOver(Remove, own.PartIn(s), target.PartIn(s)); err != nil {
		return 0, err
	}
	return cut(ctx, l, by, userID, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_REMOVED, now)
}

// Leave ends the actor's own membership of a group and returns the cut, as RemoveMember does; after the end, however it
// came, the first cut. The last member may leave too: an empty group stays as it is. Refusals: SESSION_UNAVAILABLE,
// DIRECT_SESSION, LAST_OWNER.
func (s *Service) Leave(ctx context.Context, by Actor, id uuid.UUID) (cut int64, err error) {
	return s.change(ctx, id, func(ctx context.Context, l Log) (int64, error) {
		return leave(ctx, l, by, s.clock.Now())
	})
}

func leave(ctx context.Context, l Log, by Actor, now time.Time) (int64, error) {
	s, own, err := enter(ctx, l, by, Leave)
	switch {
	case err != nil:
		return 0, err
	case !own.Active():
		return own.LeftSeq, nil
	case own.Role == RoleOwner && s.MemberCount > 1:
		if err := anotherOwner(ctx, l); err != nil {
			return 0, err
		}
	}
	return cut(ctx, l, by, by.UserID, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_LEFT, now)
}

func cut(ctx context.Context, l Log, by Actor, userID string, kind parleyv1.MemberChangeKind, now time.Time) (int64, error) {
	e, err := l.Append(ctx, by, memberChange(kind, 0, userID), now)
	if err != nil {
		return 0, err
	}
	return e.Seq, l.Leave(ctx, userID, e.Seq)
}

// anotherOwner refuses when an owner is about to cease being one and is the only one.
func anotherOwner(ctx context.Context, l Log) error {
	owners, err := l.CountRole(ctx, RoleOwner)
	if err == nil && owners < 2 {
		return lastOwner
	}
	return err
}
