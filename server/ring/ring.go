// Package ring keeps a node's recent entries, already encoded, bounded in bytes over all sessions. It is the first tier
// that a range is read from.
//
// For each session it holds an unbroken tail of the log: appending anything but the next entry starts the tail anew, and
// sessions that were not used for longest are let go first. What it holds may have been recalled elsewhere, so whoever
// learns of a head that the tail does not reach (Behind) or of a recall (Erase, Invalidate) says so. One mutex guards
// everything; nothing in here waits.
package ring

import (
	"sync"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

const (
	// perEntry is what an entry costs beside its bytes.
	perEntry = 256
	// perSession is what a session's tail costs beside its entries.
	perSession = 192
	// maxTail is how many entries of one session are kept.
	maxTail = 1024
	// maxSessions bounds the sessions, for the index's own size.
	maxSessions = 1 << 20
)

type tail struct {
	first   int64 // seq of entries[0]
	entries []*wire.Entry
	bytes   int64
}

func (t *tail) last() int64 { return t.first + int64(len(t.entries)) - 1 }

// Ring holds tails. Safe for concurrent use.
type Ring struct {
	max int64

	mu      sync.Mutex
	tails   *simplelru.LRU[uuid.UUID, *tail]
	bytes   int64
	erasing uint64 // counts recalls and invalidations: a reading that began before one may be stale
}

// New returns a ring of at most maxBytes; reg may be nil.
func New(maxBytes int64, reg prometheus.Registerer) *Ring {
	r := &Ring{max: maxBytes}
	tails, err := simplelru.NewLRU(maxSessions, func(_ uuid.UUID, t *tail) { r.bytes -= t.bytes })
	if err != nil {
		panic(err) //nolint:forbidigo // only for a size below 1
	}
	r.tails = tails
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_ring_bytes",
			Help: "Bytes of recent entries held in memory."}, func() float64 { return float64(r.Bytes()) }))
	}
	return r
}

// Bytes is what the ring holds.
func (r *Ring) Bytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

func cost(e *wire.Entry) int64 { return int64(e.Size()) + perEntry }

// Append takes an entry that was just committed.
func (r *Ring) Append(e *wire.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tails.Get(e.SessionID)
	if ok && e.Seq <= t.last() {
		return
	}
	if ok && e.Seq != t.last()+1 {
		r.tails.Remove(e.SessionID)
		ok = false
	}
	if !ok {
		t = &tail{first: e.Seq, bytes: perSession}
		r.bytes += perSession
		r.tails.Add(e.SessionID, t)
	}
	t.entries = append(t.entries, e)
	r.grow(t, cost(e))
	if len(t.entries) > maxTail {
		r.cutFront(t, len(t.entries)-maxTail/2)
	}
	if e.RecalledSeq != 0 {
		r.erase(t, e.RecalledSeq)
	}
	r.shrink()
}

func (r *Ring) grow(t *tail, n int64) {
	t.bytes += n
	r.bytes += n
}

func (r *Ring) cutFront(t *tail, n int) {
	for _, e := range t.entries[:n] {
		r.grow(t, -cost(e))
	}
	t.entries = append([]*wire.Entry(nil), t.entries[n:]...)
	t.first += int64(n)
}

func (r *Ring) shrink() {
	for r.bytes > r.max && r.tails.Len() > 0 {
		r.tails.RemoveOldest()
	}
}

// erase replaces a recalled entry. The lock is held.
func (r *Ring) erase(t *tail, seq int64) {
	r.erasing++
	if i := seq - t.first; i >= 0 && i < int64(len(t.entries)) {
		was := t.entries[i]
		t.entries[i] = was.Erased()
		r.grow(t, cost(t.entries[i])-cost(was))
	}
}

// Behind tells that the session's head is at least seq. A tail that does not reach it may lack a recall and is let go, and
// what is being read may too.
func (r *Ring) Behind(id uuid.UUID, seq int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.tails.Peek(id); !ok || t.last() < seq {
		r.erasing++
		r.tails.Remove(id)
	}
}

// Clear lets go of everything.
func (r *Ring) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erasing++
	r.tails.Purge()
	r.bytes = 0
}

// Range returns the entries of the range if the ring has all of them.
func (r *Ring) Range(q message.Range) ([]*wire.Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tails.Get(q.SessionID)
	if !ok || q.From+1 < t.first || q.To > t.last() || q.To <= q.From {
		return nil, false
	}
	return append([]*wire.Entry(nil), t.entries[q.From+1-t.first:q.To-t.first+1]...), true
}

// Split returns the entries at the end of the range that the ring has, and the range before them, which is empty (From =
// To) if it has all. What is read of that joins what is there: see Fill.
func (r *Ring) Split(q message.Range) (found []*wire.Entry, rest message.Range) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tails.Get(q.SessionID)
	if !ok || q.To > t.last() || q.To < t.first || q.To <= q.From {
		return nil, q
	}
	from := max(q.From+1, t.first)
	found = append(found, t.entries[from-t.first:q.To-t.first+1]...)
	q.To = from - 1
	return found, q
}

// Token stands for now: Fill takes what was read after it was given out.
func (r *Ring) Token() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.erasing
}

// Fill takes entries that were read back: an unbroken stretch of a session of which nothing is there, or one right
// before or right behind what is there (as pages that cut a session leave it). It is refused when something was recalled since the token was given out: what
// was read may be stale.
func (r *Ring) Fill(token uint64, entries []*wire.Entry) {
	if len(entries) == 0 || len(entries) > maxTail/2 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if token != r.erasing {
		return
	}
	first, last := entries[0], entries[len(entries)-1]
	t, ok := r.tails.Get(first.SessionID)
	switch {
	case !ok:
		t = &tail{first: first.Seq, bytes: perSession, entries: append([]*wire.Entry(nil), entries...)}
		r.bytes += perSession
		r.tails.Add(first.SessionID, t)
	case last.Seq+1 == t.first && len(t.entries)+len(entries) <= maxTail:
		t.first = first.Seq
		t.entries = append(append(make([]*wire.Entry, 0, len(entries)+len(t.entries)), entries...), t.entries...)
	case first.Seq == t.last()+1 && len(t.entries)+len(entries) <= maxTail:
		t.entries = append(t.entries, entries...)
	default:
		return
	}
	for _, e := range entries {
		r.grow(t, cost(e))
	}
	r.shrink()
}
