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
	held   map[int64]piece
	since  time.Time // since when something is held back by a hole; zero when nothing is
}

// piece is an entry, or a range of seqs, from its first up to and including to, that is left out with notice.
type piece struct {
	entry *parleyv1.Message // nil for a range
	from  int64
	to    int64
}

// open lets the thread begin after a seq.
func (t *thread) open(after int64) {
	t.opened = true
	t.skip(after)
}

// add takes an entry; one that was given before is passed over. The body of a held entry that it recalls is dropped.
func (t *thread) add(m *parleyv1.Message) {
	t.hold(piece{entry: m, from: m.GetSeq(), to: m.GetSeq()})
	if recalled := t.held[m.GetContent().GetRecall().GetSeq()].entry; recalled != nil {
		recalled.Content, recalled.IsDeleted = nil, true
	}
}

// leaveOut takes the notice that a range of seqs will not come.
func (t *thread) leaveOut(from, to int64) {
	t.hold(piece{from: max(from, t.shown+1), to: to})
}

func (t *thread) hold(p piece) {
	if p.to <= t.shown {
		return
	}
	if t.held == nil {
		t.held = make(map[int64]piece)
	}
	t.held[p.from] = p
}

// next gives what follows on the last, if it is there.
func (t *thread) next() (piece, bool) {
	p, ok := t.held[t.shown+1]
	if !ok || !t.opened {
		return piece{}, false
	}
	t.skip(p.to)
	t.since = time.Time{} // what is left, if anything, waits anew
	return p, true
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
	for from, p := range t.held {
		switch {
		case p.to <= t.shown:
			delete(t.held, from)
		case from <= t.shown:
			delete(t.held, from)
			t.leaveOut(from, p.to)
		}
	}
}

// hole reports whether something has been held back for longer than patience.
func (t *thread) hole(now time.Time, patience time.Duration) bool {
	return t.opened && len(t.held) > 0 && !t.since.IsZero() && now.Sub(t.since) > patience
}
