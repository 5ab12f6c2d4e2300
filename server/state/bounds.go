package state

import (
	"slices"
	"strconv"

	"github.com/parley-im/parley/server/refusal"
)

// MaxSeqs is how many single messages one call may mark.
const MaxSeqs = 500

var (
	errInvisible = refusal.New(refusal.CursorInvisible, "You cannot see this position of the session.")
	errTooMany   = refusal.New(refusal.InvalidField, "Too many messages at once.",
		"field", "seqs", "rule", "at most "+strconv.Itoa(MaxSeqs))
)

// check refuses seqs that the user cannot see: with CURSOR_BEYOND_HEAD those past the last one that can be seen, with
// CURSOR_INVISIBLE those in front of it. head in the metadata is the last visible seq, so that somebody who left does
// not learn how the session went on.
func (s Standing) check(seqs ...int64) error {
	last := s.Last()
	for _, seq := range seqs {
		switch {
		case seq > last:
			return refusal.New(refusal.CursorBeyondHead, "This position is past the last one that you can see.",
				"head", strconv.FormatInt(last, 10))
		case !s.Visible.Contains(seq):
			return errInvisible
		}
	}
	return nil
}

// distinct returns the seqs in ascending order, each once, and leaves the argument as it is.
func distinct(seqs []int64) ([]int64, error) {
	if len(seqs) > MaxSeqs {
		return nil, errTooMany
	}
	sorted := slices.Clone(seqs)
	slices.Sort(sorted)
	return slices.Compact(sorted), nil
}
