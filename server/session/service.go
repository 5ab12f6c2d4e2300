package session

import (
	"context"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
)

// Bounds of sessions.
const (
	// MaxMembers is how many members a group may have; past it additions are refused with GROUP_FULL.
	MaxMembers = 10_000
	// MaxSessions is how many sessions a user may be in; past it they are added to no group (TOO_MANY_SESSIONS). It is
	// looked at before a group is locked, so changes made at the same moment can pass it by their number.
	MaxSessions = 10_000
)

// Store reads sessions and keeps members' own settings. Implemented by storage; safe for concurrent use.
type Store interface {
	// View returns a session as a user who is or was in it sees it; ok is false when there is none.
	View(ctx context.Context, userID string, id uuid.UUID) (v View, ok bool, err error)
	// Views returns at most limit of a user's sessions with id > after, ascending; those left only with includeLeft.
	Views(ctx context.Context, userID string, after uuid.UUID, includeLeft bool, limit int) ([]View, error)
	// Membership returns a user's part in a session, ended ones too, and the session; ok is false when there is none.
	Membership(ctx context.Context, userID string, id uuid.UUID) (m Membership, s Session, ok bool, err error)
	// Members returns at most limit members with user id > after in byte order; none for a viewer who is no member.
	Members(ctx context.Context, viewer string, id uuid.UUID, after string, limit int) ([]Member, error)
	// MemberIDs returns all members in byte order.
	MemberIDs(ctx context.Context, id uuid.UUID) ([]string, error)
	// Heads returns the last seq of each of the sessions that exist.
	Heads(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]int64, error)
	// SetOwn changes a member's own settings and notes the change for other nodes; changed is false when they were so
	// already, and ok when the user is no member.
	SetOwn(ctx context.Context, userID string, id uuid.UUID, own OwnSettings) (changed, ok bool, err error)
	// Full returns those of the users who are in at least limit sessions now.
	Full(ctx context.Context, userIDs []string, limit int) ([]string, error)
}

// Notifier tells the user's live devices on this node but one. It never blocks, cannot fail and is safe for concurrent
// use.
type Notifier interface {
	NotifyUser(userID, exceptDevice string, ev *parleyv1.Event)
}

// Epoch tells the present life of the log.
type Epoch interface{ Current() string }

// Service has the rules. Safe for concurrent use.
type Service struct {
	store  Store
	log    Committer
	notify Notifier
	epoch  Epoch
	clock  clockwork.Clock
}

// NewService returns the service.
func NewService(store Store, log Committer, notify Notifier, epoch Epoch, clock clockwork.Clock) *Service {
	return &Service{store: store, log: log, notify: notify, epoch: epoch, clock: clock}
}

// Refusals that several rules give.
var (
	roleTooLow    = refusal.New(refusal.RoleTooLow, "Your role in this session does not allow this.")
	directSession = refusal.New(refusal.DirectSession, "Only groups can do this.")
	lastOwner     = refusal.New(refusal.LastOwner, "The group would be left without an owner; make somebody else owner first.")
	groupFull     = refusal.New(refusal.GroupFull, "The group would have more members than a group may have.")
)

func userUnavailable(userID string) error {
	return refusal.New(refusal.UserUnavailable, "This user does not exist or cannot take part.", "user_id", userID)
}

// rule is a change of one session and the answer to it: a seq.
type rule func(ctx context.Context, l Log) (seq int64, err error)

// change commits a rule. The answer is handed over by a variable that nobody reads after an error: the rule may still be
// running then.
func (s *Service) change(ctx context.Context, id uuid.UUID, r rule) (int64, error) {
	answer := new(int64)
	err := s.log.Change(ctx, id, func(ctx context.Context, l Log) (err error) {
		*answer, err = r(ctx, l)
		return err
	})
	if err != nil {
		return 0, err
	}
	return *answer, nil
}

// enter returns the session and the actor's part in it, ended ones too. Whoever never was in it learns nothing of it,
// not even by the time that the answer takes.
func enter(ctx context.Context, l Log, by Actor) (Session, Membership, error) {
	m, member, err := l.Member(ctx, by.UserID)
	if err != nil {
		return Session{}, m, err
	}
	s, exists := l.Session()
	if !exists || !member || s.LastSeq == 0 {
		return Session{}, m, Unavailable
	}
	return s, m, nil
}

// enterGroup is enter for members of groups.
func enterGroup(ctx context.Context, l Log, by Actor) (Session, Membership, error) {
	s, m, err := enter(ctx, l, by)
	switch {
	case err != nil:
		return s, m, err
	case !m.Active():
		return Session{}, m, Unavailable
	case s.Kind != KindGroup:
		return s, m, directSession
	}
	return s, m, nil
}
