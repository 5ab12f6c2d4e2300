package stream

import (
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/wire"
)

// Bounds of one stream. What the writer has taken and not yet sent comes on top, at most as much again, and before CaughtUp
// a page that was read ahead.
const (
	// MaxQueueBytes is how many bytes of encoded entries may wait. The bytes are shared with all other streams.
	MaxQueueBytes = 256 << 10
	// MaxQueueItems is how many entries may wait.
	MaxQueueItems = 4096
	// maxFrame is where a frame is sent although more waits, in bytes.
	maxFrame = 64 << 10
	// maxSignals is how many signals may wait; more are dropped: they are ephemeral.
	maxSignals = 64
	// maxReads is of how many members read positions may wait; more are dropped, as they are only told live.
	maxReads = 256
	// keepBuffer is how much of its frame buffer an idle stream keeps, in bytes.
	keepBuffer = 2 << 10
)

type queued struct {
	t *track
	e *wire.Entry
}

// Stream is one live Subscribe call. Offers and notifications come from any goroutine; all else is the writer's.
type Stream struct {
	m                *Manager
	userID, deviceID string
	wake             chan struct{} // room for one
	ended            chan struct{}
	again            bool // goes on in a call whose first stream a new epoch ended

	tracks map[uuid.UUID]*track // the writer's
	frame  *wire.Frame          // the writer's
	sink   Sink                 // the writer's
	direct Direct               // the writer's; the sink, once the stream can be parked, else nil
	wrote  bool                 // the writer's; something was sent since the stream was parked last
	caught bool                 // the writer's; CaughtUp was said
	limit  int64                // max_backlog; the writer's
	told   map[string]toldState // by session id, what the device was last told; the writer's
	unread int64                // messages, when the stream opened; the writer's
	ahead  *ahead               // the page after the one that is written; the writer's
	// beginnings are where sessions start that are still to be attached; the writer's.
	beginnings map[uuid.UUID]beginning

	mu         sync.Mutex
	endErr     error
	next       *Stream // took this one's place, see successor
	queue      []queued
	spare      []queued // the other half of the queue's double buffer
	queueBytes int
	behind     []*track
	joined     map[uuid.UUID]struct{} // memberships to read again
	lost       bool                   // all memberships are to be read again
	events     pending
	initial    int             // tracks that CaughtUp waits for
	parked     bool            // no goroutine is about; see writers
	silent     bool            // a heartbeat is due; only for a stream that was parked
	sent       time.Time       // when a parked stream last wrote, about
	beat       clockwork.Timer // looks after heartbeats; nil before the stream was parked first
	snapshots  snapshots
	passed     passed
}

// DeviceID implements hub.Stream.
func (s *Stream) DeviceID() string { return s.deviceID }

// Joined implements hub.Stream.
func (s *Stream) Joined(sessionID uuid.UUID) {
	s.mu.Lock()
	if s.joined == nil {
		s.joined = make(map[uuid.UUID]struct{})
	}
	s.joined[sessionID] = struct{}{}
	s.snapshots.voided(sessionID)
	s.nudge()
	s.mu.Unlock()
}

// Lost makes the stream read all its memberships and heads again.
func (s *Stream) Lost() {
	s.mu.Lock()
	s.lost = true
	s.snapshots.lost, s.snapshots.known = true, nil
	s.nudge()
	s.mu.Unlock()
}

// Notify implements hub.Stream. Events about the same thing are merged, so that what waits is bounded by what there is.
func (s *Stream) Notify(ev *parleyv1.Event) {
	s.mu.Lock()
	s.events.add(ev)
	s.noteState(ev)
	s.nudge()
	s.mu.Unlock()
}

// nudge wakes the writer. The lock is held.
func (s *Stream) nudge() {
	if s.parked {
		s.parked = false
		s.m.writers.add(s)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// end ends the stream with a reason; the first one counts.
func (s *Stream) end(why error) {
	s.mu.Lock()
	if next := s.next; next != nil {
		s.mu.Unlock()
		next.end(why)
		return
	}
	defer s.mu.Unlock()
	if s.endErr == nil {
		s.endErr = why
		close(s.ended)
		s.nudge()
	}
}

// dropQueue lets go of all that waits: its tracks fall behind and pull it later. The lock is held.
func (s *Stream) dropQueue() {
	for i, q := range s.queue {
		q.t.fallBehind(q.e.Seq)
		s.queue[i] = queued{}
	}
	s.m.queueBytes.Add(-int64(s.queueBytes))
	s.m.metrics.overflow()
	s.queue, s.queueBytes = s.queue[:0], 0
}

// eraseQueued takes a recalled body out of the queue. The lock is held.
func (s *Stream) eraseQueued(t *track, seq int64) {
	for i, q := range s.queue {
		if q.t == t && q.e.Seq == seq {
			s.queue[i].e = q.e.Erased()
			freed := q.e.Size() - s.queue[i].e.Size()
			s.queueBytes -= freed
			s.m.queueBytes.Add(-int64(freed))
			return
		}
	}
}

// work is what the writer takes at once.
type work struct {
	queue  []queued
	events []*parleyv1.Event
	joined []uuid.UUID
	lost   bool
	behind bool
	beat   bool // a heartbeat is due
}

// take hands the waiting work to the writer.
func (s *Stream) take() (w work) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeAll()
}

// takeAll is take with the lock held.
func (s *Stream) takeAll() (w work) {
	w.queue = s.queue
	s.queue, s.spare = s.spare[:0], nil
	for _, q := range w.queue {
		q.t.taken = q.e.Seq
	}
	s.passed.drop(s.tracks)
	s.m.queueBytes.Add(-int64(s.queueBytes))
	s.queueBytes = 0
	w.events = s.events.take()
	for id := range s.joined {
		w.joined = append(w.joined, id)
	}
	s.joined = nil
	w.lost, s.lost = s.lost, false
	w.behind = len(s.behind) > 0
	w.beat, s.silent = s.silent, false
	return w
}

// takeFrame hands a writer of many streams what one frame takes: of a longer queue its front and nothing else, as all that
// waits beside a queue comes behind it. The lock is held.
func (s *Stream) takeFrame() (w work) {
	if s.queueBytes <= maxFrame {
		return s.takeAll()
	}
	n, size := 0, 0
	for n < len(s.queue) && size < maxFrame {
		q := s.queue[n]
		q.t.taken = q.e.Seq
		size += q.e.Size()
		n++
	}
	rest := append(s.spare[:0], s.queue[n:]...)
	clear(s.queue[n:])
	w.queue = s.queue[:n]
	s.queue, s.spare = rest, nil
	s.m.queueBytes.Add(-int64(size))
	s.queueBytes -= size
	return w
}

// giveBack returns the emptied half of the queue.
func (s *Stream) giveBack(q []queued) {
	if cap(q) > 1024 {
		return
	}
	clear(q)
	s.mu.Lock()
	s.spare = q[:0]
	s.mu.Unlock()
}

// release lets the buffers go; for streams that have been idle for a heartbeat.
func (s *Stream) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = nil
	if len(s.queue) == 0 {
		s.queue = nil
	}
}
