package stream

import (
	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/wire"
)

// track is one session on one stream. Its fields are guarded by the stream's mutex but for the first three, which never
// change. It is a hub.Receiver.
type track struct {
	s         *Stream
	sessionID uuid.UUID
	attached  bool // in the hub; written by the writer's goroutine only

	visible session.Visibility
	asOf    int64 // the session's head when visible was read: removals up to there are in it
	role    session.Role
	own     Settings
	taken   int64 // last seq handed to the writer (or left out with notice)
	head    int64 // highest seq known
	next    int64 // live only: the seq that may be queued
	behind  bool
	loading bool  // attached, but the membership is not read yet
	initial bool  // part of the backlog that CaughtUp waits for
	closed  bool  // nothing more can be seen
	cut     int64 // seq of the last removal of the user that the track saw
	fresh   int64 // what becomes of entries above it is told by events, see fresh.go
}

// Offer implements hub.Receiver.
func (t *track) Offer(entries []*wire.Entry) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		t.offer(e)
	}
}

// offer takes one entry. The lock is held.
func (t *track) offer(e *wire.Entry) {
	s := t.s
	if e.RecalledSeq != 0 {
		s.eraseQueued(t, e.RecalledSeq)
	}
	switch {
	case t.closed || e.Seq <= t.head && (t.behind || e.Seq < t.next):
	case t.behind:
		t.head = e.Seq
	case e.Seq < t.next:
	case e.Seq > t.next:
		t.fallBehind(e.Seq)
		s.nudge()
	default:
		t.queue(e)
		s.nudge()
	}
}

// queue takes the next entry of a live track. The lock is held.
func (t *track) queue(e *wire.Entry) {
	s := t.s
	if len(s.queue) >= MaxQueueItems || s.queueBytes+e.Size() > MaxQueueBytes && len(s.queue) > 0 {
		s.dropQueue()
		t.fallBehind(e.Seq)
		return
	}
	s.queue = append(s.queue, queued{t, e})
	s.queueBytes += e.Size()
	s.m.queueBytes.Add(int64(e.Size()))
	t.head, t.next = e.Seq, e.Seq+1
	if t.cuts(e) {
		t.visible = t.visible.CutAt(e.Seq)
		t.closed, t.cut = true, e.Seq
	}
}

// cuts reports whether an entry ends what the user can see. One that the membership was read after does not: either what was
// read ends there too, or the user has come back since and is shown the past. For the writer, or with the lock held.
func (t *track) cuts(e *wire.Entry) bool { return e.Seq > t.asOf && e.Removes(t.s.userID) }

// fallBehind makes the track one that pulls, up to head. The lock is held.
func (t *track) fallBehind(head int64) {
	t.head = max(t.head, head)
	t.closed = false // the writer closes it again when it finds nothing more to see
	if !t.behind {
		t.behind = true
		t.s.behind = append(t.s.behind, t)
	}
}

// Advance implements hub.Receiver.
func (t *track) Advance(seq int64) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	switch {
	case t.closed || seq <= t.head:
	case t.behind:
		t.head = seq
	default:
		t.fallBehind(seq)
		t.s.nudge()
	}
}

// Signal implements hub.Receiver.
func (t *track) Signal(ev *parleyv1.Event) {
	sig := ev.GetSignal()
	if sig.GetSenderId() == t.s.userID && sig.GetSenderDeviceId() == t.s.deviceID {
		return
	}
	t.s.mu.Lock()
	ok := !t.closed && !t.loading
	t.s.mu.Unlock()
	if ok {
		t.s.Notify(ev)
	}
}
