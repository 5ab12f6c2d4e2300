// Package check proves what a run of the bench delivered: to each device, of each of its sessions, every seq once and in
// order, none missing. A figure of a run that fails here is worth nothing.
package check

import (
	"fmt"
	"slices"
	"sync"
)

// Device checks what one device was shown. Entry, Skipped, Resync and CaughtUp (a scan.Sink) belong to the goroutine that
// reads the device's stream; the other methods may be called by any. A mutex guards all of it, and is nearly never waited
// for.
type Device struct {
	// Observe, when set, is called for each new entry with its text.
	Observe func(body []byte)
	// OnCaughtUp, when set, is called when the backlog is over.
	OnCaughtUp func()
	// OnFailed, when set, is called when the stream ends that was not closed.
	OnFailed func(err error)

	mu       sync.Mutex
	sessions map[string]*log
	last     *log // of the entry before: most often the next one's too
	entries  int64
	caughtUp bool
	problems []string
	broken   int
}

// log is what the device was shown of one session.
type log struct {
	id      string
	seq     int64
	known   bool           // whether it is known where the device began
	missing []int64        // seqs passed over: right only for own sends
	own     map[int64]bool // seqs of own sends, whose answers take the entries' places
}

// maxProblems is how many are kept in words; the others are counted.
const maxProblems = 3

// Start says that the device knows a session up to seq.
func (d *Device) Start(session string, seq int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.log(session)
	l.seq, l.known, l.missing, l.own = seq, true, nil, nil
}

// Own says that the device's own send got seq.
func (d *Device) Own(session string, seq int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.log(session)
	if l.own == nil {
		l.own = make(map[int64]bool)
	}
	l.own[seq] = true
}

func (d *Device) log(session string) *log {
	l := d.sessions[session]
	if l == nil {
		if d.sessions == nil {
			d.sessions = make(map[string]*log)
		}
		l = &log{id: session}
		d.sessions[session] = l
	}
	return l
}

// Entry takes the next entry.
func (d *Device) Entry(session []byte, seq int64, body []byte) {
	d.mu.Lock()
	l := d.last
	if l == nil || l.id != string(session) {
		if l = d.sessions[string(session)]; l == nil {
			l = d.log(string(session))
		}
		d.last = l
	}
	switch {
	case l.known && seq <= l.seq:
		d.problem("session %s: seq %d after %d", l.id, seq, l.seq)
		d.mu.Unlock()
		return
	case l.known && seq > l.seq+1:
		l.pass(seq)
	}
	l.seq, l.known = seq, true
	d.entries++
	d.mu.Unlock()
	if d.Observe != nil {
		d.Observe(body)
	}
}

// maxPassed bounds how many seqs passed over are kept of one hole; own sends leave small ones.
const maxPassed = 100_000

func (l *log) pass(seq int64) {
	for at := l.seq + 1; at < seq && at <= l.seq+maxPassed; at++ {
		l.missing = append(l.missing, at)
	}
}

// Skipped takes a range that the server leaves out, which is right only in a backlog.
func (d *Device) Skipped(session []byte, from, to int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.caughtUp {
		d.problem("session %s: %d to %d were skipped", session, from, to)
	}
	l := d.log(string(session))
	l.seq, l.known = to, true
}

// Resync takes the request to start afresh, which no run gives a reason for.
func (d *Device) Resync() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.problem("the server asked to start afresh")
}

// CaughtUp takes the end of the backlog.
func (d *Device) CaughtUp() {
	d.mu.Lock()
	d.caughtUp = true
	d.mu.Unlock()
	if d.OnCaughtUp != nil {
		d.OnCaughtUp()
	}
}

// Failed notes that the stream broke.
func (d *Device) Failed(err error) {
	d.mu.Lock()
	d.problem("stream: %v", err)
	d.mu.Unlock()
	if d.OnFailed != nil {
		d.OnFailed(err)
	}
}

func (d *Device) problem(format string, a ...any) {
	d.broken++
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, fmt.Sprintf(format, a...))
	}
}

// Entries is how many entries came, repeats not counted.
func (d *Device) Entries() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entries
}

// Reached reports whether the device has, by stream or by its own answers, all of a session up to seq.
func (d *Device) Reached(session string, seq int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.log(session)
	at := l.seq
	for at < seq && l.own[at+1] {
		at++
	}
	return at >= seq
}

// Settle judges a session of which the device should have all up to head, and goes on from there: it returns how many
// entries are missing. Own sends may have been shown, as a stream that fell behind shows the log as it is.
func (d *Device) Settle(session string, head int64) (missing int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.log(session)
	if !l.known || head > l.seq {
		l.pass(head + 1)
	} else if head < l.seq {
		d.problem("session %s: seq %d was shown, %d is the head", session, l.seq, head)
	}
	for _, seq := range l.missing {
		if !l.own[seq] {
			missing++
		}
	}
	if missing > 0 {
		d.problem("session %s: %d missing, the first is %d", session, missing, slices.Min(l.missing))
	}
	l.seq, l.known, l.missing, l.own = head, true, nil, nil
	return missing
}

// Problems returns how many breaks of the promises there were since the last call, and the first of them in words.
func (d *Device) Problems() (int, []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, said := d.broken, d.problems
	d.broken, d.problems = 0, nil
	return n, said
}
