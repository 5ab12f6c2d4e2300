package session

// Interval is the seqs From <= seq <= To. To is Open while it has no end.
type Interval struct{ From, To int64 }

// Open is the end of an interval that has none.
const Open = int64(1<<63 - 1)

// Contains reports whether seq lies in the interval.
func (i Interval) Contains(seq int64) bool { return seq >= i.From && seq <= i.To }

// Visibility is the part of a session's log that a user can see: disjoint intervals in ascending order, at least one.
// Leaving and coming back makes two; where a group shows its past to new members, one that begins at 1. The zero
// value sees nothing.
type Visibility []Interval

// Contains reports whether the user can see seq.
func (v Visibility) Contains(seq int64) bool {
	for _, i := range v {
		if i.Contains(seq) {
			return true
		}
	}
	return false
}

// Last returns the last seq that can be seen of a log with this head, 0 for nothing.
func (v Visibility) Last(head int64) int64 {
	for n := len(v) - 1; n >= 0; n-- {
		if v[n].From <= head {
			return min(v[n].To, head)
		}
	}
	return 0
}

// First returns the first seq that can be seen, 0 for nothing.
func (v Visibility) First() int64 {
	if len(v) == 0 {
		return 0
	}
	return v[0].From
}

// Next returns the first visible stretch of seqs above after and up to limit: from < seq <= to. ok is false when there
// is none. from > after means that the seqs between are hidden.
func (v Visibility) Next(after, limit int64) (from, to int64, ok bool) {
	for _, i := range v {
		if i.To <= after {
			continue
		}
		from, to = max(after, i.From-1), min(i.To, limit)
		return from, to, from < to
	}
	return 0, 0, false
}

// CutAt ends the open interval at seq: the last thing seen of this membership. Intervals that begin later, and ends
// before seq, stay.
func (v Visibility) CutAt(seq int64) Visibility {
	out := append(Visibility(nil), v...)
	for n := range out {
		if out[n].To == Open && out[n].From <= seq {
			out[n].To = seq
		}
	}
	return out
}

// Intersect returns the parts of the interval that can be seen, ascending.
func (v Visibility) Intersect(w Interval) []Interval {
	var out []Interval
	for _, i := range v {
		if lo, hi := max(i.From, w.From), min(i.To, w.To); lo <= hi {
			out = append(out, Interval{lo, hi})
		}
	}
	return out
}
