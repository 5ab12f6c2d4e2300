package state

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/session"
)

// MarkReadTo moves the watermark to upTo, unless it is there already or further, and takes the unread flag away. Members
// whose membership has ended may mark what they can still see. It returns the state afterwards, which other devices are
// told if anything changed.
//
// Refusals: SESSION_UNAVAILABLE, CURSOR_BEYOND_HEAD past the last visible seq (metadata head), CURSOR_INVISIBLE for a seq
// that the user cannot see, also one below the watermark: whether a seq is good must not depend on a race.
func (s *Service) MarkReadTo(ctx context.Context, by session.Actor, sessionID uuid.UUID, upTo int64) (View, error) {
	return s.change(ctx, by, sessionID, rule{judge: func(st *Standing) error {
		if err := st.check(upTo); err != nil {
			return err
		}
		st.ReadSeq = max(st.ReadSeq, upTo)
		st.MarkedUnread = false
		return nil
	}})
}

// MarkRead marks single messages as read, at most MaxSeqs in any order, lets the watermark absorb and takes the unread
// flag away. One bad seq refuses the call whole; refusals and return value are those of MarkReadTo, and INVALID_FIELD
// for too many seqs.
func (s *Service) MarkRead(ctx context.Context, by session.Actor, sessionID uuid.UUID, seqs []int64) (View, error) {
	seqs, err := distinct(seqs)
	if err != nil {
		return View{}, err
	}
	return s.change(ctx, by, sessionID, rule{single: true, seqs: seqs, judge: func(st *Standing) error {
		st.MarkedUnread = false
		return st.check(seqs...)
	}})
}

// MarkUnread flags the session as unread; no cursor moves. The flag stays until something in the session is marked as
// read or the user sends. Refusals: SESSION_UNAVAILABLE.
func (s *Service) MarkUnread(ctx context.Context, by session.Actor, sessionID uuid.UUID) error {
	_, err := s.change(ctx, by, sessionID, rule{judge: func(st *Standing) error {
		st.MarkedUnread = true
		return nil
	}})
	return err
}

// DeleteTo deletes everything up to upTo for the user, which counts as read from then on. Refusals and return value are
// those of MarkReadTo; the unread flag stays.
func (s *Service) DeleteTo(ctx context.Context, by session.Actor, sessionID uuid.UUID, upTo int64) (View, error) {
	return s.change(ctx, by, sessionID, rule{judge: func(st *Standing) error {
		if err := st.check(upTo); err != nil {
			return err
		}
		st.DeletedToSeq = max(st.DeletedToSeq, upTo)
		st.ReadSeq = max(st.ReadSeq, upTo)
		return nil
	}})
}

// Delete deletes single messages for the user, at most MaxSeqs in any order, and lets the watermark absorb. Refusals and
// return value are those of MarkRead; the unread flag stays.
func (s *Service) Delete(ctx context.Context, by session.Actor, sessionID uuid.UUID, seqs []int64) (View, error) {
	seqs, err := distinct(seqs)
	if err != nil {
		return View{}, err
	}
	return s.change(ctx, by, sessionID, rule{single: true, deleted: true, seqs: seqs, judge: func(st *Standing) error {
		return st.check(seqs...)
	}})
}

// rule is what somebody asks for: judge moves the cursors, or refuses.
type rule struct {
	judge func(st *Standing) error
	// single is a change of single messages: their exceptions are made and the watermark absorbs.
	single  bool
	seqs    []int64
	deleted bool
}

// want is what a rule for single messages has to ask the ledger for.
func (r rule) want(k Key, st Standing) Want {
	w := Want{Key: k, Seqs: r.seqs, Above: st.ReadSeq, Deleted: r.deleted,
		In: st.Visible.Intersect(session.Interval{From: st.ReadSeq + 1, To: st.Last()})}
	if r.deleted {
		w.Above = st.DeletedToSeq
	}
	return w
}

// absorb moves the watermark up to before the first visible entry that is still unread, or to the last visible seq.
// What cannot be seen is passed over.
func (s *Standing) absorb(w Want, f Found) {
	if len(w.In) == 0 {
		return
	}
	last := s.Last()
	if f.FirstUnread != 0 {
		last = f.FirstUnread - 1
	}
	s.ReadSeq = max(s.ReadSeq, last)
}
