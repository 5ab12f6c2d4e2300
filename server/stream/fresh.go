package stream

import (
	"math"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// Bounds of what a stream may do without a goroutine of its own once it fell behind.
const (
	// maxNearby is how many tracks may be behind.
	maxNearby = 8
	// maxPassed is how many sessions' own changes are remembered until the writer comes by.
	maxPassed = 64
)

// asNew tells the states of entries that nobody has done anything to yet, as on the live path.
func (s *Stream) asNew(e *wire.Entry) *parleyv1.MessageState {
	return MessageState(e.SenderID == s.userID || !e.Type.Countable() || e.IsDeleted, false)
}

// isFresh reports whether a pull's entries can go out as new, as they would have gone had the track stayed live: they came
// after the track was set to what was read of it, so all that became of them since is told by events; and nothing that
// the device has been told, or did itself, is about them, so that all of it comes behind them. For the writer; the lock is
// held.
func (s *Stream) isFresh(p pull) bool {
	if p.lo < p.t.fresh || s.passed.upTo(p.t.sessionID) > p.lo {
		return false
	}
	return len(s.told) == 0 || s.told[p.t.sessionID.String()].upTo <= p.lo
}

// upTo is the last seq that an event says anything of.
func upTo(st *parleyv1.StateEvent) int64 {
	if st.GetReload() {
		return math.MaxInt64
	}
	last := max(st.GetReadSeq(), st.GetDeletedToSeq())
	for _, seq := range st.GetReadSeqs() {
		last = max(last, seq)
	}
	for _, seq := range st.GetDeletedSeqs() {
		last = max(last, seq)
	}
	return last
}

// passed remembers up to where the device itself changed states of sessions, as far as it does not have the entries yet.
// Guarded by the stream's mutex; the zero value is empty.
type passed struct {
	last map[uuid.UUID]int64
	many bool // more than could be remembered
}

func (p *passed) add(ev *parleyv1.Event) {
	st := ev.GetState()
	if st == nil || p.many {
		return
	}
	id, err := uuid.Parse(st.GetSessionId())
	if err != nil {
		return
	}
	if p.last == nil {
		p.last = make(map[uuid.UUID]int64)
	}
	p.last[id] = max(p.last[id], upTo(st))
	if len(p.last) > maxPassed {
		p.last, p.many = nil, true
	}
}

// drop forgets what is about entries that the writer has taken.
func (p *passed) drop(tracks map[uuid.UUID]*track) {
	for id, last := range p.last {
		if t := tracks[id]; t == nil || last <= t.taken {
			delete(p.last, id)
		}
	}
	if len(p.last) == 0 {
		p.last = nil
	}
}

func (p *passed) upTo(id uuid.UUID) int64 {
	if p.many {
		return math.MaxInt64
	}
	return p.last[id]
}

// nearby is a pull whose entries are in memory.
type nearby struct {
	pull
	entries []*wire.Entry
}

// nearby returns what a parked stream is behind with, as far as one frame takes it, if that is in memory and can go out as
// new, and if there is nothing else that may take its time: then a writer sends it like what was queued. What the queue
// holds must be taken before the lock is let go, and sent first. nil if it cannot be so.
func (s *Stream) nearby() []nearby {
	if s.endErr != nil || s.lost || len(s.joined) > 0 || len(s.behind) == 0 || len(s.behind) > maxNearby || s.queueBytes > maxFrame {
		return nil
	}
	room := maxFrame - s.queueBytes
	out := make([]nearby, 0, len(s.behind))
	for _, t := range s.behind {
		if t.loading || t.initial {
			return nil
		}
		lo, hi, ok := t.visible.Next(s.lastQueued(t), t.head)
		if !ok {
			continue // settle makes it live
		}
		n := nearby{pull: pull{t, lo, min(hi, lo+maxPageEntries)}}
		if !s.isFresh(n.pull) {
			return nil
		}
		if n.entries, ok = s.m.reader.Recent(message.Range{SessionID: t.sessionID, From: n.lo, To: n.hi}); !ok {
			return nil
		}
		for i, e := range n.entries {
			if room -= e.Size(); room < 0 && len(out)+i > 0 {
				n.entries, n.hi = n.entries[:i], n.lo+int64(i)
				break
			}
		}
		if len(n.entries) > 0 {
			out = append(out, n)
		}
		if room < 0 {
			break
		}
	}
	return out
}

// lastQueued is the last seq of a track that the writer has or is about to take. The lock is held.
func (s *Stream) lastQueued(t *track) int64 {
	at := t.taken
	for _, q := range s.queue {
		if q.t == t {
			at = q.e.Seq
		}
	}
	return at
}
