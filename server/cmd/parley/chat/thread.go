package chat

import (
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// thread puts a session's entries in order: whichever way they come, next gives each once, in seq order.
type thread struct {
	shown int64 // last seq given
	held  map[int64]*parleyv1.Message
	since time.Time // since when something is held back by a hole; zero when nothing is
}

// add takes an entry. now is remembered if it leaves a hole.
func (t *thread) add(m *parleyv1.Message, now time.Time) {
	if m.GetSeq() <= t.shown {
		return
	}
	if t.held == nil {
		t.held = make(map[int64]*parleyv1.Message)
	}
	t.held[m.GetSeq()] = m
	if t.since.IsZero() {
		t.since = now
	}
}

// next gives the entry after the last one, if it is there.
func (t *thread) next() (*parleyv1.Message, bool) {
	m, ok := t.held[t.shown+1]
	if !ok {
		if len(t.held) == 0 {
			t.since = time.Time{}
		}
		return nil, false
	}
	delete(t.held, m.GetSeq())
	t.shown = m.GetSeq()
	t.since = time.Time{} // what is left, if anything, waits anew
	return m, true
}

// wait notes that something is still held.
func (t *thread) wait(now time.Time) {
	if len(t.held) > 0 && t.since.IsZero() {
		t.since = now
	}
}

// skip passes over everything up to seq, which will not come.
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
	return len(t.held) > 0 && !t.since.IsZero() && now.Sub(t.since) > patience
}
