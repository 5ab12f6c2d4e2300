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
	return s.change(ctx, by, sessionID, func(_ context.Context, _ Ledger, st *Standing) (Changes, error) {
		if err := st.check(upTo); err != nil {
			return Changes{}, err
		}
		st.ReadSeq = max(st.ReadSeq, upTo)
		st.MarkedUnread = false
		return Changes{}, nil
	})
}

// MarkRead marks single messages as read, at most MaxSeqs in any order, lets the watermark absorb and takes the unread
// flag away. One bad seq refuses the call whole; refusals and return value are those of MarkReadTo, and INVALID_FIELD
// for too many seqs.
func (s *Service) MarkRead(ctx context.Context, by session.Actor, sessionID uuid.UUID, seqs []int64) (View, error) {
	seqs, err := distinct(seqs)
	if err != nil {
		return View{}, err
	}
	return s.change(ctx, by, sessionID, func(ctx context.Context, l Ledger, st *Standing) (ch Changes, err error) {
		if err := st.check(seqs...); err != nil {
			return ch, err
		}
		if ch.Read, err = l.Read(ctx, seqs, st.ReadSeq); err != nil {
			return ch, err
		}
		st.MarkedUnread = false
		return ch, absorb(ctx, l, st)
	})
}

// MarkUnread flags the session as unread; no cursor moves. The flag stays until something in the session is marked as
// read or the user sends. Refusals: SESSION_UNAVAILABLE.
func (s *Service) MarkUnread(ctx context.Context, by session.Actor, sessionID uuid.UUID) error {
	_, err := s.change(ctx, by, sessionID, func(_ context.Context, _ Ledger, st *Standing) (Changes, error) {
		st.MarkedUnread = true
		return Changes{}, nil
	})
	return err
}

// DeleteTo deletes everything up to upTo for the user, which counts as read from then on. Refusals and return value are
// those of MarkReadTo; the unread flag stays.
func (s *Service) DeleteTo(ctx context.Context, by session.Actor, sessionID uuid.UUID, upTo int64) (View, error) {
	return s.change(ctx, by, sessionID, func(_ context.Context, _ Ledger, st *Standing) (Changes, error) {
		if err := st.check(upTo); err != nil {
			return Changes{}, err
		}
		st.DeletedToSeq = max(st.DeletedToSeq, upTo)
		st.ReadSeq = max(st.ReadSeq, upTo)
		return Changes{}, nil
	})
}

// Delete deletes single messages for the user, at most MaxSeqs in any order, and lets the watermark absorb. Refusals and
// return value are those of MarkRead; the unread flag stays.
func (s *Service) Delete(ctx context.Context, by session.Actor, sessionID uuid.UUID, seqs []int64) (View, error) {
	seqs, err := distinct(seqs)
	if err != nil {
		return View{}, err
	}
	return s.change(ctx, by, sessionID, func(ctx context.Context, l Ledger, st *Standing) (ch Changes, err error) {
		if err := st.check(seqs...); err != nil {
			return ch, err
		}
		if ch.Deleted, err = l.Delete(ctx, seqs, st.DeletedToSeq); err != nil {
			return ch, err
		}
		return ch, absorb(ctx, l, st)
	})
}

// absorb moves the watermark up to before the first visible entry that is still unread, or to the last visible seq.
// What cannot be seen is passed over.
func absorb(ctx context.Context, l Ledger, st *Standing) error {
	last := st.Last()
	above := st.Visible.Intersect(session.Interval{From: st.ReadSeq + 1, To: last})
	if len(above) == 0 {
		return nil
	}
	first, err := l.FirstUnread(ctx, above)
	if err != nil {
		return err
	}
	if first != 0 {
		last = first - 1
	}
	st.ReadSeq = max(st.ReadSeq, last)
	return nil
}
