package session

import (
	"context"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
)

// Page sizes.
const (
	DefaultSessions = 50
	MaxSessionsPage = 200
	DefaultMembers  = 100
	MaxMembersPage  = 1000
)

// View is a session as one user sees it.
type View struct {
	Session Session
	Member  Membership
	Unread  int64 // countable entries not read; 0 once the membership has ended
	// Last is the entry at Head; its Seq is 0 when it could not be found. LastReadApart and LastDeletedApart are
	// the user's state of it as far as it differs from the watermark.
	Last             message.Entry
	LastReadApart    bool
	LastDeletedApart bool
}

// Head is the last seq that the user can see.
func (v View) Head() int64 { return v.Member.Visible.Last(v.Session.LastSeq) }

// asSeen takes away what lies past the end of an ended membership: there is no telling what title and settings were when
// it ended, so none are shown.
func (v View) asSeen() View {
	if v.Member.Active() {
		return v
	}
	s := v.Session
	v.Session = Session{
		ID: s.ID, Kind: s.Kind, OwnerID: s.OwnerID, DirectLow: s.DirectLow, DirectHigh: s.DirectHigh,
		LastSeq: v.Member.LeftSeq, CreatedAt: s.CreatedAt,
	}
	return v
}

// Member is a member as others see it.
type Member struct {
	UserID      string
	DisplayName string
	Role        Role
	JoinedSeq   int64
	ReadSeq     int64
	Muted       bool
}

// Get returns a session of the user, or of one who was in it what can still be seen of it. Refusal: SESSION_UNAVAILABLE.
func (s *Service) Get(ctx context.Context, userID string, id uuid.UUID) (View, error) {
	v, ok, err := s.store.View(ctx, userID, id)
	if err != nil {
		return View{}, err
	}
	if err := Authorize(Read, Part{Known: ok, Active: v.Member.Active()}); err != nil {
		return View{}, err
	}
	return v.asSeen(), nil
}

// View is Get for a SessionEvent: without the last message.
func (s *Service) View(ctx context.Context, userID string, id uuid.UUID) (*parleyv1.Session, error) {
	v, err := s.Get(ctx, userID, id)
	if err != nil {
		return nil, err
	}
	return v.Proto(s.epoch.Current()), nil
}

// List returns a page of at most limit (0 means DefaultSessions) of the user's sessions with id > after, ascending; those
// left only with includeLeft. more says that another page follows the last session's id.
func (s *Service) List(ctx context.Context, userID string, after uuid.UUID, includeLeft bool, limit int) (views []View, more bool, err error) {
	limit = pageSize(limit, DefaultSessions, MaxSessionsPage)
	views, err = s.store.Views(ctx, userID, after, includeLeft, limit+1)
	if err != nil {
		return nil, false, err
	}
	views, more = cutPage(views, limit)
	for i := range views {
		views[i] = views[i].asSeen()
	}
	return views, more, nil
}

// Members returns a page of at most limit (0 means DefaultMembers) members with user id > after, in byte order, to one of
// them. more says that another page follows the last member's id. Refusal: SESSION_UNAVAILABLE.
func (s *Service) Members(ctx context.Context, viewer string, id uuid.UUID, after string, limit int) (members []Member, more bool, err error) {
	if _, _, err := s.Authorize(ctx, viewer, id, ListMembers); err != nil {
		return nil, false, err
	}
	limit = pageSize(limit, DefaultMembers, MaxMembersPage)
	members, err = s.store.Members(ctx, viewer, id, after, limit+1)
	if err != nil {
		return nil, false, err
	}
	members, more = cutPage(members, limit)
	return members, more, nil
}

// Authorize says whether a user may do something in a session, as it is now, by one look at the store. It returns the
// user's part in it, ended ones too: Membership.Visible is what may be read. Refusals: those of the function Authorize,
// SESSION_UNAVAILABLE also for sessions that do not exist.
func (s *Service) Authorize(ctx context.Context, userID string, id uuid.UUID, a Action) (Membership, Session, error) {
	m, found, ok, err := s.store.Membership(ctx, userID, id)
	if err != nil {
		return Membership{}, Session{}, err
	}
	p := Part{}
	if ok {
		p = m.PartIn(found)
	}
	if err := Authorize(a, p); err != nil {
		return Membership{}, Session{}, err
	}
	return m, found, nil
}

// MemberIDs returns the ids of all members in byte order, none for sessions that do not exist. It checks no viewer.
func (s *Service) MemberIDs(ctx context.Context, id uuid.UUID) ([]string, error) {
	return s.store.MemberIDs(ctx, id)
}

// Heads returns the last seq of each of the sessions that exist. It checks no viewer.
func (s *Service) Heads(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]int64, error) {
	return s.store.Heads(ctx, ids)
}

func pageSize(limit, standard, most int) int {
	if limit <= 0 {
		return standard
	}
	return min(limit, most)
}

// cutPage takes off the row that was read only to know whether there is one.
func cutPage[T any](rows []T, limit int) (page []T, more bool) {
	if len(rows) > limit {
		return rows[:limit], true
	}
	return rows, false
}
