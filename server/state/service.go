package state

import (
	"context"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// Store keeps states. Implemented by storage; safe for concurrent use.
type Store interface {
	// Change runs fn in one transaction that holds the lock of the user's row of the session, and commits unless fn
	// fails, whose errors come back as they are. fn may run again from the start after a lost race, so it must not keep
	// state from an earlier run.
	Change(ctx context.Context, userID string, sessionID uuid.UUID, fn func(ctx context.Context, l Ledger) error) error
	// Standing returns what the user can see of the session; ok is false when there is no such session or the user never
	// was in it.
	Standing(ctx context.Context, userID string, sessionID uuid.UUID) (s Standing, ok bool, err error)
	// Views returns a view for each of the sessions that the user is or was in, ascending by session id.
	Views(ctx context.Context, userID string, sessionIDs []uuid.UUID) ([]View, error)
	// Unread returns the views of the user's current sessions that have something unread or are flagged as unread,
	// ascending by session id.
	Unread(ctx context.Context, userID string) ([]View, error)
	// Exceptions returns the user's exceptions within the ranges, ascending by session id and seq. The ranges must not
	// overlap.
	Exceptions(ctx context.Context, userID string, ranges []message.Range) ([]Exception, error)
	// Entries returns the entries of one session within disjoint intervals, ascending by seq, with what decides the user's
	// state of each. The cursors belong to the same moment; ok is false when there are no entries.
	Entries(ctx context.Context, userID string, sessionID uuid.UUID, in []session.Interval) (e Entries, ok bool, err error)
	// Readers returns the members who have read an entry that exists: how many, and the first max of those whose id comes
	// after a user id, in byte order.
	Readers(ctx context.Context, sessionID uuid.UUID, seq int64, after string, maxUsers int) (count int64, users []string, err error)
}

// Ledger is one user's states of one session inside an open transaction that holds the row's lock. Not safe for
// concurrent use.
type Ledger interface {
	// Standing returns the standing as locked; ok is false when there is no such session or the user never was in it.
	Standing() (s Standing, ok bool)
	// Read makes exceptions "read" of those of the entries that are countable and lie above a seq, and returns the seqs
	// that were not so before. All entries must exist.
	Read(ctx context.Context, seqs []int64, above int64) (changed []int64, err error)
	// Delete makes exceptions "read and deleted" of those of the entries that lie above a seq, and returns the seqs that
	// were not deleted before. All entries must exist.
	Delete(ctx context.Context, seqs []int64, above int64) (changed []int64, err error)
	// FirstUnread returns the first entry within disjoint intervals that is countable, not recalled, of another sender and
	// not read by an exception; 0 means none.
	FirstUnread(ctx context.Context, in []session.Interval) (seq int64, err error)
	// Save stores cursors and flag, drops the exceptions that the cursors now cover, and notes the change in the commit
	// log. It returns the note's id and what is unread afterwards.
	Save(ctx context.Context, before, after Standing) (unread, commitLogID int64, err error)
	// Unread returns what is unread now.
	Unread(ctx context.Context) (int64, error)
}

// Notifier tells the user's other devices. Both methods never block, cannot fail and are safe for concurrent use.
type Notifier interface {
	// NotifyUser gives an event to the user's live devices on this node but one.
	NotifyUser(userID, exceptDevice string, ev *parleyv1.Event)
	// Handled says that this node has told its devices what the row of the commit log stands for.
	Handled(commitLogID int64)
}

// Service has the rules. Safe for concurrent use.
type Service struct {
	store  Store
	notify Notifier
}

// NewService returns the service. States carry no time, so it needs no clock.
func NewService(store Store, notify Notifier) *Service {
	return &Service{store: store, notify: notify}
}

// change runs rule under the lock. rule moves what after points to and returns the exceptions it made; where neither
// changed anything, nothing is written and nobody is told.
func (s *Service) change(ctx context.Context, by session.Actor, sessionID uuid.UUID,
	rule func(ctx context.Context, l Ledger, after *Standing) (Changes, error),
) (View, error) {
	var view View
	var made Changes
	var logID int64
	err := s.store.Change(ctx, by.UserID, sessionID, func(ctx context.Context, l Ledger) error {
		logID = 0
		before, ok := l.Standing()
		if !ok {
			return session.Unavailable
		}
		after := before
		var err error
		if made, err = rule(ctx, l, &after); err != nil {
			return err
		}
		var unread int64
		if made.none() && before.sameCursors(after) {
			unread, err = l.Unread(ctx)
		} else {
			unread, logID, err = l.Save(ctx, before, after)
		}
		view = after.view(sessionID, unread)
		return err
	})
	if err != nil {
		return View{}, err
	}
	if logID != 0 {
		s.notify.NotifyUser(by.UserID, by.DeviceID, Event(view, made))
		s.notify.Handled(logID)
	}
	return view, nil
}

func (s Standing) sameCursors(o Standing) bool {
	return s.ReadSeq == o.ReadSeq && s.DeletedToSeq == o.DeletedToSeq && s.MarkedUnread == o.MarkedUnread
}
