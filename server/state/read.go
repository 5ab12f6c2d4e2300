package state

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/session"
)

// Sizes of pages.
const (
	// DefaultPage is how many items a page has when the caller names no limit.
	DefaultPage = 100
	// MaxPage is how many items a page has at most.
	MaxPage = 1000
)

// Entry is what decides a user's state of one message.
type Entry struct {
	Seq       int64
	MessageID uuid.UUID
	Own       bool // sent by the user
	Countable bool // counts as unread for those who have not read it: of a countable type and not recalled
	Read      bool // by an exception
	Deleted   bool // by an exception
}

// Entries are entries of one session with the user's cursors of the same moment.
type Entries struct {
	ReadSeq      int64
	DeletedToSeq int64
	List         []Entry // ascending by seq
}

// SeqState is a user's state of one message.
type SeqState struct {
	Seq       int64
	MessageID uuid.UUID
	Read      bool
	Deleted   bool
}

// Page is a page of states with the cursors they were made from.
type Page struct {
	ReadSeq      int64
	DeletedToSeq int64
	States       []SeqState // ascending by seq
}

// List returns the user's state of each visible message with seq > after, ascending, at most limit (0 means DefaultPage,
// never more than MaxPage). Refusals: SESSION_UNAVAILABLE.
func (s *Service) List(ctx context.Context, userID string, sessionID uuid.UUID, after int64, limit int) (Page, error) {
	st, ok, err := s.store.Standing(ctx, userID, sessionID)
	if err != nil {
		return Page{}, err
	}
	if err := session.Authorize(session.Read, st.Part(ok)); err != nil {
		return Page{}, err
	}
	page := Page{ReadSeq: st.ReadSeq, DeletedToSeq: st.DeletedToSeq}
	in := st.next(after, int64(pageSize(limit)))
	if len(in) == 0 {
		return page, nil
	}
	entries, ok, err := s.store.Entries(ctx, userID, sessionID, in)
	if err != nil || !ok {
		return page, err
	}
	page.ReadSeq, page.DeletedToSeq = entries.ReadSeq, entries.DeletedToSeq
	page.States = entries.states(sessionID)
	return page, nil
}

func (e Entries) states(sessionID uuid.UUID) []SeqState {
	exceptions := make([]Exception, 0, len(e.List))
	for _, m := range e.List {
		if m.Read || m.Deleted {
			exceptions = append(exceptions, Exception{SessionID: sessionID, Seq: m.Seq, Read: m.Read, Deleted: m.Deleted})
		}
	}
	of := Of(View{SessionID: sessionID, ReadSeq: e.ReadSeq, DeletedToSeq: e.DeletedToSeq}, exceptions)
	out := make([]SeqState, 0, len(e.List))
	for _, m := range e.List {
		read, deleted := of(m.Seq, m.Own, m.Countable)
		out = append(out, SeqState{Seq: m.Seq, MessageID: m.MessageID, Read: read, Deleted: deleted})
	}
	return out
}

// next returns the intervals that hold the first n visible entries after a seq. Seqs are gapless, so an interval has as
// many entries as it is long.
func (s Standing) next(after, n int64) []session.Interval {
	var out []session.Interval
	for after = max(after, 0); n > 0; {
		from, to, ok := s.Visible.Next(after, s.Head)
		if !ok {
			break
		}
		to = min(to, from+n)
		out = append(out, session.Interval{From: from + 1, To: to})
		n -= to - from
		after = to
	}
	return out
}

// Unread returns the views of the sessions that the user is in now and that have something unread or are flagged as
// unread, ascending by session id, and the sum of what is unread in them. With ids it looks at those sessions only and
// passes over the ones that the user is not in.
func (s *Service) Unread(ctx context.Context, userID string, ids []uuid.UUID) (total int64, views []View, err error) {
	if len(ids) == 0 {
		views, err = s.store.Unread(ctx, userID)
	} else {
		views, err = s.store.Views(ctx, userID, ids)
	}
	if err != nil {
		return 0, nil, err
	}
	kept := views[:0]
	for _, v := range views {
		if v.Active && (v.Unread > 0 || v.MarkedUnread) {
			kept = append(kept, v)
			total += v.Unread
		}
	}
	return total, kept, nil
}

func pageSize(limit int) int {
	if limit <= 0 {
		return DefaultPage
	}
	return min(limit, MaxPage)
}
