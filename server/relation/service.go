package relation

import (
	"context"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/parley-im/parley/server/account"
	"github.com/parley-im/parley/server/session"
)

// Service has the rules. Safe for concurrent use.
type Service struct {
	store  Store
	notify Notifier
	clock  clockwork.Clock
}

// NewService returns the service.
func NewService(store Store, notify Notifier, clock clockwork.Clock) *Service {
	return &Service{store: store, notify: notify, clock: clock}
}

// Request asks a user for friendship, or accepts where that user has asked already. Asking again changes nothing.
// Errors: INVALID_FIELD, SELF_TARGET, RECIPIENT_BLOCKED_BY_YOU, RECIPIENT_UNAVAILABLE (which does not tell an unknown or
// deactivated user from one who has blocked the caller), NOT_ALLOWED at MaxTies.
func (s *Service) Request(ctx context.Context, by session.Actor, peerID string) (Relation, error) {
	return s.change(ctx, by, peerID, request)
}

// Respond accepts or declines a received request. Accepting what was accepted changes nothing. Errors: INVALID_FIELD,
// SELF_TARGET, RELATION_UNAVAILABLE, RECIPIENT_UNAVAILABLE when accepting a user who was deactivated, NOT_ALLOWED at
// MaxTies.
func (s *Service) Respond(ctx context.Context, by session.Actor, peerID string, accepted bool) (Relation, error) {
	if accepted {
		return s.change(ctx, by, peerID, accept)
	}
	return s.change(ctx, by, peerID, decline)
}

// Remove ends a friendship or withdraws the caller's own request. Ending what is not there changes nothing. Errors:
// INVALID_FIELD, SELF_TARGET.
func (s *Service) Remove(ctx context.Context, by session.Actor, peerID string) error {
	_, err := s.change(ctx, by, peerID, remove)
	return err
}

// Block blocks a user and ends friendship and requests in both directions. Errors: INVALID_FIELD, SELF_TARGET,
// USER_UNAVAILABLE, NOT_ALLOWED at MaxBlocks.
func (s *Service) Block(ctx context.Context, by session.Actor, peerID string) error {
	_, err := s.change(ctx, by, peerID, block)
	return err
}

// Unblock ends a block. Ending what is not there changes nothing. Errors: INVALID_FIELD, SELF_TARGET.
func (s *Service) Unblock(ctx context.Context, by session.Actor, peerID string) error {
	_, err := s.change(ctx, by, peerID, unblock)
	return err
}

// List returns the user's relations of a kind, None meaning all, with users whose id comes after a user id (empty: from
// the first), ascending in byte order, at most limit; more says whether there are others behind them.
func (s *Service) List(ctx context.Context, userID string, kind Kind, after string, limit int) (list []Relation, more bool, err error) {
	list, err = s.store.List(ctx, userID, kind, after, limit+1)
	if err != nil || len(list) <= limit {
		return list, false, err
	}
	return list[:limit], true, nil
}

// Views returns for each link what the peer is to the user now, in the links' order. It is for nodes that read from
// relation_change that something changed: tell each user of the link, and only that user, with Event.
func (s *Service) Views(ctx context.Context, links []Link) ([]Relation, error) {
	if len(links) == 0 {
		return nil, nil
	}
	return s.store.Views(ctx, links)
}

// change applies a rule under the locks of both users and tells those who see a change. It returns what the peer is to
// the caller afterwards.
func (s *Service) change(ctx context.Context, by session.Actor, peerID string, apply rule) (Relation, error) {
	if err := account.CheckID("user_id", peerID); err != nil {
		return Relation{}, err
	}
	if peerID == by.UserID {
		return Relation{}, errSelf
	}
	now := account.Now(s.clock)
	var before, after Pair
	var since time.Time
	err := s.store.Change(ctx, by.UserID, peerID, func(ctx context.Context, l Ledger) error {
		var st Standing
		st, since = l.Standing()
		if err := callerMayAct(st); err != nil {
			return err
		}
		before = st.Pair
		var err error
		if after, err = apply(st); err != nil || after == before {
			return err
		}
		if err := checkBounds(ctx, l, before.Own, after.Own); err != nil {
			return err
		}
		return l.Save(ctx, before, after, now)
	})
	if err != nil {
		return Relation{}, err
	}
	if after.Kind() != before.Kind() || after.Kind() == None {
		since = now
	}
	own := Relation{UserID: peerID, Kind: after.Kind(), UpdatedAt: since}
	s.tell(by, before, after, own, now)
	return own, nil
}

// tell gives the change to the caller's other devices, and to the other user's where that user sees one: a block by
// somebody who was nothing to them shows to nobody else.
func (s *Service) tell(by session.Actor, before, after Pair, own Relation, now time.Time) {
	if after.Kind() != before.Kind() {
		s.notify.NotifyUser(by.UserID, by.DeviceID, Event(own))
	}
	if seen := after.Flip().Kind(); seen != before.Flip().Kind() {
		s.notify.NotifyUser(own.UserID, "", Event(Relation{UserID: by.UserID, Kind: seen, UpdatedAt: now}))
	}
}

// callerMayAct looks at the caller's row, which is locked anyway, so that nothing is done after a deactivation.
func callerMayAct(st Standing) error {
	switch {
	case !st.CallerKnown:
		return errCaller
	case !st.CallerActive:
		return errCallerGone
	default:
		return nil
	}
}

// checkBounds refuses a mark of the caller's own that would be one too many. The other user's marks never grow in number:
// a request of theirs becomes a friendship.
func checkBounds(ctx context.Context, l Ledger, before, after Mark) error {
	isTie := func(m Mark) bool { return m == MarkFriend || m == MarkRequested }
	switch {
	case isTie(after) && !isTie(before):
		return atBound(ctx, l, MaxTies, errFull, MarkFriend, MarkRequested)
	case after == MarkBlocked && before != MarkBlocked:
		return atBound(ctx, l, MaxBlocks, errBlocksFull, MarkBlocked)
	default:
		return nil
	}
}

func atBound(ctx context.Context, l Ledger, most int64, full error, marks ...Mark) error {
	n, err := l.Count(ctx, marks...)
	if err != nil {
		return err
	}
	if n >= most {
		return full
	}
	return nil
}
