package session

import (
	"context"
	"time"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Standing is what can be set of a member by others; the zero value of each field leaves it as it is.
type Standing struct {
	Role  Role
	Muted *bool
}

// SetMember gives a member a role, then mutes or unmutes them, both or, with a refusal, neither. It returns the seq of the
// last entry made, the present head when the member was so already. A group may have several owners; one of them may step
// down while there is another. Refusals: SESSION_UNAVAILABLE, DIRECT_SESSION, USER_UNAVAILABLE (no member), ROLE_TOO_LOW
// (a role is given by owners, a member is muted by whoever has a higher role), LAST_OWNER.
func (s *Service) SetMember(ctx context.Context, by Actor, id uuid.UUID, userID string, to Standing) (seq int64, err error) {
	return s.change(ctx, id, func(ctx context.Context, l Log) (int64, error) {
		return setMember(ctx, l, by, userID, to, s.clock.Now())
	})
}

func setMember(ctx context.Context, l Log, by Actor, userID string, to Standing, now time.Time) (int64, error) {
	s, own, err := enter(ctx, l, by, Manage)
	if err != nil {
		return 0, err
	}
	target, known, err := l.Member(ctx, userID)
	if err != nil {
		return 0, err
	}
	if !known || !target.Active() {
		return 0, userUnavailable(userID)
	}
	seq := s.LastSeq
	if to.Role != 0 && to.Role != target.Role {
		if seq, err = giveRole(ctx, l, by, own.PartIn(s), target, to.Role, now); err != nil {
			return 0, err
		}
		target.Role = to.Role
		if userID == by.UserID {
			own.Role = to.Role
		}
	}
	if to.Muted != nil && *to.Muted != target.Muted {
		if err := AuthorizeOver(Mute, own.PartIn(s), target.PartIn(s)); err != nil {
			return 0, err
		}
		return mute(ctx, l, by, userID, *to.Muted, now)
	}
	return seq, nil
}

// giveRole changes a role. Nobody raises themself by it, since only owners give roles.
func giveRole(ctx context.Context, l Log, by Actor, own Part, target Membership, role Role, now time.Time) (int64, error) {
	if err := Authorize(GiveRole, own); err != nil {
		return 0, err
	}
	if target.Role == RoleOwner {
		if err := anotherOwner(ctx, l); err != nil {
			return 0, err
		}
	}
	e, err := l.Append(ctx, by,
		memberChange(parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ROLE_CHANGED, role, target.UserID), now)
	if err != nil {
		return 0, err
	}
	return e.Seq, l.SetRole(ctx, target.UserID, role)
}

func mute(ctx context.Context, l Log, by Actor, userID string, muted bool, now time.Time) (int64, error) {
	kind := parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_UNMUTED
	if muted {
		kind = parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_MUTED
	}
	e, err := l.Append(ctx, by, memberChange(kind, 0, userID), now)
	if err != nil {
		return 0, err
	}
	return e.Seq, l.SetMuted(ctx, userID, muted)
}
