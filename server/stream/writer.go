package stream

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/wire"
)

// Bounds of one pull.
const (
	// maxPageEntries is how many entries one page of backlog has at most.
	maxPageEntries = 512
	// maxPageSessions is how many sessions one page of backlog spans at most.
	maxPageSessions = 128
)

// run writes until the call, the stream or the sink ends. The returned error says why.
func (s *Stream) run(ctx context.Context) error {
	beat := s.m.clock.NewTimer(s.m.cfg.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-s.ended:
			return s.endErr
		default:
		}
		w := s.take()
		if w.lost {
			active, err := s.m.sessions.ActiveSessionIDs(ctx, s.userID)
			if err != nil {
				return fmt.Errorf("list sessions: %w", err)
			}
			w.joined = append(w.joined, active...)
			for id := range s.tracks {
				w.joined = append(w.joined, id)
			}
		}
		if len(w.joined) > 0 {
			if err := s.reload(ctx, w.joined); err != nil {
				return err
			}
		}
		if err := s.writeQueue(w.queue, maxFrame); err != nil {
			return err
		}
		if w.behind || len(w.joined) > 0 {
			if err := s.pullPage(ctx); err != nil {
				return err
			}
		}
		more := s.settle()
		if !s.caught && s.initialDone() {
			s.caught = true
			if err := s.sayCaughtUp(); err != nil {
				return err
			}
		}
		for _, ev := range w.events {
			s.writeEvent(ev)
			if err := s.flushPast(maxFrame); err != nil {
				return err
			}
		}
		if w.beat && s.frame.Len() == 0 {
			s.frame.Event(heartbeat)
		}
		if s.frame.Len() > 0 {
			if err := s.flush(); err != nil {
				return err
			}
			beat.Reset(s.m.cfg.Heartbeat)
		}
		if more {
			continue
		}
		if s.caught {
			if parked, err := s.tryPark(); parked || err != nil {
				return err
			}
		}
		select {
		case <-s.wake:
		case <-s.ended:
			return s.endErr
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.Chan():
			s.frame.Event(heartbeat)
			if err := s.flush(); err != nil {
				return err
			}
			s.frame.Reset(0)
			s.release()
			beat.Reset(s.m.cfg.Heartbeat)
		}
	}
}

// writeQueue writes entries that waited, in frames of about limit bytes; the last one is left to the caller to flush.
func (s *Stream) writeQueue(queue []queued, limit int) error {
	written := 0
	for _, q := range queue {
		// The sending device had its answer, which takes the entry's place.
		if q.e.SenderID == s.userID && q.e.SenderDevice == s.deviceID && q.e.Type.Countable() {
			continue
		}
		s.frame.Entry(q.e)
		written++
		if err := s.flushPast(limit); err != nil {
			return err
		}
		if q.e.Removes(s.userID) {
			s.leave(q.t, q.e.Seq)
		}
	}
	s.m.metrics.delivered(written)
	s.giveBack(queue)
	return nil
}

var heartbeat = &parleyv1.Event{Kind: &parleyv1.Event_Heartbeat{Heartbeat: &parleyv1.Heartbeat{}}}

func (s *Stream) flushPast(n int) error {
	if s.frame.Len() < n {
		return nil
	}
	return s.flush()
}

func (s *Stream) flush() error {
	if err := s.sink.Send(s.frame); err != nil {
		return fmt.Errorf("write to stream: %w", err)
	}
	s.wrote = true
	s.m.metrics.frame(s.frame.Len())
	s.frame.Reset(2 * maxFrame) // append has grown it past maxFrame; growing it anew for each frame cost more than filling it
	return nil
}

func (s *Stream) sayOpened(epoch string) error {
	s.frame.Event(&parleyv1.Event{Kind: &parleyv1.Event_Opened{Opened: &parleyv1.Opened{
		Epoch: epoch, HeartbeatInterval: durationpb.New(s.m.cfg.Heartbeat)}}})
	return s.flush()
}

func (s *Stream) sayCaughtUp() error {
	s.mu.Lock()
	s.snapshots = snapshots{}
	s.mu.Unlock()
	s.frame.Event(&parleyv1.Event{Kind: &parleyv1.Event_CaughtUp{CaughtUp: &parleyv1.CaughtUp{UnreadTotal: s.unread}}})
	err := s.flush()
	s.frame.Reset(keepBuffer) // the backlog's is too large to wait in
	return err
}

func (s *Stream) saySkipped(t *track, from, to int64) {
	s.frame.Event(&parleyv1.Event{Kind: &parleyv1.Event_Skipped{Skipped: &parleyv1.Skipped{
		SessionId: t.sessionID.String(), FromSeq: from, ToSeq: to}}})
}

// pull is the next stretch of a track to read.
type pull struct {
	t      *track
	lo, hi int64 // lo < seq <= hi
}

// choose picks what the next page reads, in the order in which tracks fell behind. Tracks picked in part go on next time.
// Where another page comes first, it is the one after that. A track that fell behind since the queue was taken, with entries
// in it, waits until they are taken: what is pulled must not overtake them.
func (s *Stream) choose(first []pull) (pulls []pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	budget := int64(maxPageEntries)
	var queues map[*track]bool
	if len(s.queue) > 0 {
		queues = make(map[*track]bool)
	}
	for _, q := range s.queue {
		queues[q.t] = true
	}
	for _, t := range s.behind {
		if t.loading || queues[t] {
			continue
		}
		at := t.taken
		if len(first) > 0 && first[0].t == t { // they are in the same order
			at, first = first[0].hi, first[1:]
		}
		lo, hi, ok := t.visible.Next(at, t.head)
		if !ok {
			continue // settle makes it live
		}
		hi = min(hi, lo+budget)
		budget -= hi - lo
		pulls = append(pulls, pull{t, lo, hi})
		if budget == 0 || len(pulls) == maxPageSessions {
			break
		}
	}
	return pulls
}

// pullPage reads one page of what the stream is behind with and writes it, the user's own states on it.
func (s *Stream) pullPage(ctx context.Context) error {
	pulls := s.choose(nil)
	if len(pulls) == 0 {
		return nil
	}
	ranges := rangesOf(pulls)
	release, err := s.m.admit(ctx)
	if err != nil {
		return err
	}
	pages, err := s.readPage(ctx, ranges)
	if err != nil {
		release()
		return fmt.Errorf("read backlog: %w", err)
	}
	if !s.caught {
		s.readAhead(ctx, rangesOf(s.choose(pulls)))
	}
	stateOf, err := s.statesOf(ctx, pulls, ranges)
	release()
	if err != nil {
		return fmt.Errorf("read states: %w", err)
	}
	for i, p := range pulls {
		if err := s.writePulled(p, pages[i], stateOf[i], maxFrame); err != nil {
			return err
		}
	}
	return nil
}

var errIncomplete = errors.New("a range was read in part")

// writePulled writes what was pulled, in frames of about limit bytes.
func (s *Stream) writePulled(p pull, entries []*wire.Entry, stateOf StateOf, limit int) error {
	if int64(len(entries)) != p.hi-p.lo {
		return errIncomplete
	}
	t := p.t
	if p.lo > t.taken {
		s.saySkipped(t, t.taken+1, p.lo)
	}
	last, cut := p.hi, false
	for _, e := range entries {
		s.frame.EntryFor(e, stateOf(e))
		s.m.metrics.delivered(1)
		if err := s.flushPast(limit); err != nil {
			return err
		}
		if t.cuts(e) {
			last, cut = e.Seq, true
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.taken = last
	if cut {
		t.visible, t.cut = t.visible.CutAt(last), last
	}
	return nil
}

// settle makes live, or closes, the tracks that have nothing left to pull, and lets go of those that are closed and
// written. It reports whether there is more to pull.
func (s *Stream) settle() (more bool) {
	var gone []*track
	s.mu.Lock()
	rest := s.behind[:0]
	for _, t := range s.behind {
		if t.loading {
			rest = append(rest, t)
			continue
		}
		if _, _, ok := t.visible.Next(t.taken, t.head); ok {
			rest = append(rest, t)
			more = true
			continue
		}
		t.behind = false
		t.head = max(t.head, t.taken)
		t.next = t.head + 1
		if t.initial {
			t.initial = false
			s.initial--
		}
		if len(t.visible) == 0 || t.visible[len(t.visible)-1].To != session.Open {
			t.closed = true
			gone = append(gone, t)
		}
	}
	clear(s.behind[len(rest):])
	s.behind = rest
	more = more || s.lost || len(s.queue) > 0 || len(s.joined) > 0 || len(s.events.order) > 0
	s.mu.Unlock()
	for _, t := range gone {
		s.detach(t)
	}
	return more
}

// leave detaches a track whose end was written, unless the user has come back meanwhile.
func (s *Stream) leave(t *track, cut int64) {
	s.mu.Lock()
	still := t.closed && t.cut == cut
	s.mu.Unlock()
	if still {
		s.detach(t)
	}
}

func (s *Stream) initialDone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.initial == 0
}

// asEnd turns what ended the writer into what the call answers.
func asEnd(err error) error {
	if errors.Is(err, errIncomplete) {
		return refusal.New(refusal.Unavailable, "The backlog could not be read; reconnect and resume.", "retry_after_ms", "1000")
	}
	return err
}
