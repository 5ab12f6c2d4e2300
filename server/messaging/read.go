package messaging

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// Page sizes of List.
const (
	DefaultPage = 50
	MaxPage     = 500
)

// Position says where a page lies. At most one of the two is set; neither means the newest entries.
type Position struct {
	After  *int64 // entries with seq > After, the lowest ones
	Before *int64 // entries with seq < Before, the highest ones
}

// Page is a page of history, ascending by seq.
type Page struct {
	Entries []message.Entry
	Head    int64 // the last seq that the user can see
	More    bool  // the user can see more in the direction asked for
}

// Ranges are what a page consists of, for looking up states.
func (p Page) Ranges() []message.Range {
	var out []message.Range
	for _, e := range p.Entries {
		if n := len(out); n > 0 && out[n-1].To == e.Seq-1 {
			out[n-1].To = e.Seq
			continue
		}
		out = append(out, message.Range{SessionID: e.SessionID, From: e.Seq - 1, To: e.Seq})
	}
	return out
}

// List returns a page of at most limit entries (0 means DefaultPage) that the user can see. Refusal: SESSION_UNAVAILABLE.
func (s *Service) List(ctx context.Context, userID string, id uuid.UUID, at Position, limit int64) (Page, error) {
	if limit <= 0 {
		limit = DefaultPage
	}
	seen, err := s.seen(ctx, userID, id)
	if err != nil {
		return Page{}, err
	}
	stretches, more := pick(seen, at, min(limit, MaxPage))
	ranges := make([]message.Range, len(stretches))
	for i, st := range stretches {
		ranges[i] = message.Range{SessionID: id, From: st.From - 1, To: st.To}
	}
	page := Page{Head: seen.Visible.Last(seen.Head), More: more}
	if len(ranges) == 0 {
		return page, nil
	}
	found, err := s.history.Entries(ctx, ranges)
	if err != nil {
		return Page{}, err
	}
	page.Entries = slices.Concat(found...)
	return page, nil
}

// Get returns one entry that the user can see. Refusals: SESSION_UNAVAILABLE, MESSAGE_UNAVAILABLE.
func (s *Service) Get(ctx context.Context, userID string, id uuid.UUID, seq int64) (message.Entry, error) {
	seen, err := s.seen(ctx, userID, id)
	if err != nil {
		return message.Entry{}, err
	}
	if seq > seen.Head || !seen.Visible.Contains(seq) {
		return message.Entry{}, unseen(seq)
	}
	found, err := s.history.Entries(ctx, []message.Range{{SessionID: id, From: seq - 1, To: seq}})
	if err != nil {
		return message.Entry{}, err
	}
	return found[0][0], nil
}

func (s *Service) seen(ctx context.Context, userID string, id uuid.UUID) (cursor.Seen, error) {
	all, err := s.limits.Seen(ctx, userID, []uuid.UUID{id})
	if err != nil {
		return cursor.Seen{}, err
	}
	seen, ok := all[id]
	return seen, session.Authorize(session.Read, seen.Part(ok))
}

// pick chooses the stretches of a page, ascending, with at most limit seqs in all, and reports whether there are more.
func pick(seen cursor.Seen, at Position, limit int64) (out []session.Interval, more bool) {
	window := session.Interval{From: 1, To: seen.Head}
	if at.After != nil {
		window.From = min(*at.After, session.Open-1) + 1
	}
	if at.Before != nil {
		window.To = min(window.To, *at.Before-1)
	}
	stretches := seen.Visible.Intersect(window)
	if at.After == nil {
		slices.Reverse(stretches)
	}
	for _, st := range stretches {
		if limit == 0 {
			more = true
			break
		}
		if n := st.To - st.From + 1; n > limit {
			more = true
			if at.After != nil {
				st.To = st.From + limit - 1
			} else {
				st.From = st.To - limit + 1
			}
		}
		limit -= st.To - st.From + 1
		out = append(out, st)
	}
	if at.After == nil {
		slices.Reverse(out)
	}
	return out, more
}
