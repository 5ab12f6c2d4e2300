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
	// MaxParts is how many parts of a group's log a user may see apart from each other, as comes of leaving and being added
	// again; past it they are added only where the group shows its past (USER_UNAVAILABLE). Every stream of theirs keeps the
	// parts, 16 bytes each.
	MaxParts = 2_000
	// MaxSessions is how many sessions a user may be in unless LimitSessions says otherwise; past it they are added to no
	// group and no direct session of theirs is made (TOO_MANY_SESSIONS).
	MaxSessions = 10_000
	// MaxMaxSessions is the most that it can be set to: that many rows may be counted to make a session.
	MaxMaxSessions = 1_000_000
)

// Store reads sessions and keeps members' own settings. Implemented by storage; safe for concurrent use.
type Store interface {
	// View returns a session as a user who is or was in it sees it; ok is false when there is none.
	View(ctx context.Context, userID string, id uuid.UUID) (v View, ok bool, err error)
	// Views returns at most limit of a user's sessions with id > after, ascending; those left only with includeLeft.
	Views(ctx context.Context, userID string, after uuid.UUID, includeLeft bool, limit int) ([]View, error)
	// Membership returns a user's part in a session, ended ones too, with its Reach, and the session; ok is false when
	// there is none.
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
	// Full returns those of the users who are in at least limit sessions now, in any order.
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

	maxSessions int
}

// NewService returns the service. A user may be in MaxSessions sessions.
func NewService(store Store, log Committer, notify Notifier, epoch Epoch, clock clockwork.Clock) *Service {
	return &Service{store: store, log: log, notify: notify, epoch: epoch, clock: clock, maxSessions: MaxSessions}
}

// LimitSessions sets how many sessions a user may be in, from 1 to MaxMaxSessions; to be called before anything else is.
func (s *Service) LimitSessions(most int) { s.maxSessions = most }

// Refusals that several rules give.
var (
	lastOwner = refusal.New(refusal.LastOwner, "The group would be left without an owner; make somebody else owner first.")
	groupFull = refusal.New(refusal.GroupFull, "The group would have more members than a group may have.")
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

// enter returns the session and the actor's part in it, where the actor may do this. Whoever may not learns nothing of it,
// not even by the time that the answer takes: the same is read whether there is such a session or not.
func enter(ctx context.Context, l Log, by Actor, a Action) (Session, Membership, error) {
	m, s, p, err := part(ctx, l, by.UserID)
	if err != nil {
		return Session{}, m, err
	}
	if err := Authorize(a, p); err != nil {
		return Session{}, m, err
	}
	return s, m, nil
}

// part returns a user's part in the locked session, the zero Part where there is none.
func part(ctx context.Context, l Log, userID string) (Membership, Session, Part, error) {
	m, member, err := l.Member(ctx, userID)
	if err != nil {
		return m, Session{}, Part{}, err
	}
	s, exists := l.Session()
	if !exists || !member || s.LastSeq == 0 {
		return m, s, Part{}, nil
	}
	return m, s, m.PartIn(s), nil
}

// EnterTo is enter for those who change the log from elsewhere: it returns the actor's part in the locked session.
func EnterTo(ctx context.Context, l Log, by Actor, a Action) (Membership, Part, error) {
	m, _, p, err := part(ctx, l, by.UserID)
	if err != nil {
		return m, p, err
	}
	return m, p, Authorize(a, p)
}

// PartOf returns another user's part in the locked session.
func PartOf(ctx context.Context, l Log, userID string) (Part, error) {
	_, _, p, err := part(ctx, l, userID)
	return p, err
}
