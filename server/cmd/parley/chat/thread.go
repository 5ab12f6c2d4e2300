package chat

import (
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// thread puts a session's entries in order: whichever way they come, next gives each once, in seq order. It is closed
// until open says where it begins; what comes before that is held.
type thread struct {
	opened bool
	shown  int64 // last seq given, or left out with notice
	held   map[int64]*parleyv1.Message
	since  time.Time // since when something is held back by a hole; zero when nothing is
}

// open lets the thread begin after a seq.
func (t *thread) open(after int64) {
	t.opened = true
	t.skip(after)
}

// add takes an entry; one that was given before is passed over. The body of a held entry that it recalls is dropped.
func (t *thread) add(m *parleyv1.Message) {
	if m.GetSeq() <= t.shown {
		return
	}
	if t.held == nil {
		t.held = make(map[int64]*parleyv1.Message)
	}
	t.held[m.GetSeq()] = m
	if recalled := t.held[m.GetContent().GetRecall().GetSeq()]; recalled != nil {
		recalled.Content, recalled.IsDeleted = nil, true
	}
}

// next gives the entry after the last one, if it is there.
func (t *thread) next() (*parleyv1.Message, bool) {
	m, ok := t.held[t.shown+1]
	if !ok || !t.opened {
		return nil, false
	}
	delete(t.held, m.GetSeq())
	t.shown = m.GetSeq()
	t.since = time.Time{} // what is left, if anything, waits anew
	return m, true
}

// wait notes since when something is held back.
func (t *thread) wait(now time.Time) {
	switch {
	case len(t.held) == 0:
		t.since = time.Time{}
	case t.since.IsZero():
		t.since = now
	}
}

// skip passes over everything up to and including seq, which will not come.
func (t *thread) skip(seq int64) {
	t.shown = max(t.shown, seq)
	for held := range t.held {
		if held <= t.shown {
			delete(t.held, held)
		}
	}
}

// hole reports whether something has been held back for longer than patience.
func (t *thread) hole(now time.Time, patience time.Duration) bool {
	return t.opened && len(t.held) > 0 && !t.since.IsZero() && now.Sub(t.since) > patience
}
