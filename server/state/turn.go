package state

import (
	"context"
	"errors"

	"github.com/parley-im/parley/server/session"
)

// turn is what one transaction does to one key: any number of changes of cursors, one after the other, or one change of
// single messages, whose exceptions no other change of the same transaction may depend on.
type turn struct {
	key   Key
	marks []*mark
	full  bool // something of the key waits for the next transaction: nothing may overtake it

	// Written anew whenever the transaction runs.
	busy          bool
	before, after Standing
	want          *Want
	made          bool
}

// takes reports whether another change may go with what the turn has, which is not empty.
func (t *turn) takes(m *mark) bool {
	t.full = t.full || m.single || t.marks[0].single
	return !t.full
}

// apply commits turns in one transaction, tells the other devices, and leaves each mark its outcome.
func (s *Service) apply(turns []*turn, wait bool) error {
	keys := make([]Key, len(turns))
	for i, t := range turns {
		keys[i] = t.key
	}
	//nolint:forbidigo // the batch belongs to many callers, each of whom may leave
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	var logID int64
	err := s.store.Change(ctx, keys, wait, func(ctx context.Context, l Ledger) (err error) {
		logID, err = applyTo(ctx, l, turns)
		return err
	})
	s.size.Observe(float64(len(turns)))
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errUncertain
		}
		return err
	}
	for _, t := range turns {
		for _, m := range t.marks {
			if m.moved {
				s.notify.NotifyUser(m.by.UserID, m.by.DeviceID, Event(m.view, m.made))
			}
		}
	}
	for _, t := range turns {
		if t.after.ReadSeq > t.before.ReadSeq && t.after.Active {
			s.notify.Read(t.key.UserID, t.key.SessionID, t.after.ReadSeq)
		}
	}
	if logID != 0 {
		s.notify.Handled(logID)
	}
	return nil
}

// applyTo applies the rules under the locks, in at most three round trips whatever the number of turns.
func applyTo(ctx context.Context, l Ledger, turns []*turn) (commitLogID int64, err error) {
	var wants []Want
	var asking []*turn
	for _, t := range turns {
		if t.judge(l); t.want != nil {
			wants, asking = append(wants, *t.want), append(asking, t)
		}
	}
	if len(wants) > 0 {
		found, err := l.Except(ctx, wants)
		if err != nil {
			return 0, err
		}
		for i, t := range asking {
			t.found(found[i])
		}
	}
	moves := make([]Move, 0, len(turns))
	asked := make([]Key, 0, len(turns))
	for _, t := range turns {
		if !t.answered() {
			continue
		}
		asked = append(asked, t.key)
		if t.moved() {
			moves = append(moves, Move{Key: t.key, Before: t.before, After: t.after, Made: t.made})
		}
	}
	if len(asked) == 0 {
		return 0, nil
	}
	unread, commitLogID, err := l.Save(ctx, moves, asked)
	for _, t := range turns {
		for _, m := range t.marks {
			m.view = t.after.view(t.key.SessionID, unread[t.key])
			if m.err != nil {
				m.view = View{}
			}
		}
	}
	return commitLogID, err
}

// judge applies the rules to the cursors, each to what the one before left.
func (t *turn) judge(l Ledger) {
	t.want, t.made, t.busy = nil, false, false
	st, hold := l.Standing(t.key)
	t.before, t.after, t.busy = st, st, hold == Busy
	for _, m := range t.marks {
		m.moved, m.made, m.view, m.err = false, Changes{}, View{}, nil
		if m.err = session.Authorize(session.Read, st.Part(hold == Held)); m.err != nil {
			continue
		}
		if m.ctx.Err() != nil { // the caller has left before anything was done
			m.err = m.ctx.Err()
			continue
		}
		next := t.after
		if m.err = m.judge(&next); m.err != nil {
			continue
		}
		if m.single {
			w := m.rule.want(t.key, t.after)
			t.want = &w
		}
		m.moved = !next.sameCursors(t.after)
		t.after = next
	}
}

// found ends the judging of a change of single messages.
func (t *turn) found(f Found) {
	m := t.marks[0]
	if m.deleted {
		m.made.Deleted = f.Changed
	} else {
		m.made.Read = f.Changed
	}
	t.after.absorb(*t.want, f)
	t.made = !m.made.none()
	m.moved = t.made || !t.before.sameCursors(t.after)
}

// answered reports whether any of the changes was not refused.
func (t *turn) answered() bool {
	for _, m := range t.marks {
		if m.err == nil {
			return true
		}
	}
	return false
}

func (t *turn) moved() bool {
	for _, m := range t.marks {
		if m.moved {
			return true
		}
	}
	return false
}
