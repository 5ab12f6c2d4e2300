package stream

import (
	"context"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/wire"
)

// MaxExceptions is how many exceptions of a session a Standing holds. The states of a session with more are read page by
// page instead.
const MaxExceptions = 256

// Standing is a user's states of one session as they were when a Position was read.
type Standing struct {
	View state.View
	// Exceptions are those with seq > From, ascending; deleted ones are negative.
	Exceptions []int64
	From       int64
	// Whole is false when there are more exceptions than MaxExceptions.
	Whole bool
}

// StateOf tells what an entry is to a user. It must not be changed: states are shared.
type StateOf func(e *wire.Entry) *parleyv1.MessageState

var messageStates = [2][2]*parleyv1.MessageState{ // shared, never changed
	{{}, {IsDeleted: true}},
	{{IsRead: true}, {IsRead: true, IsDeleted: true}},
}

// MessageState is the state as the API shows it. Not to be changed.
func MessageState(read, deleted bool) *parleyv1.MessageState {
	r, d := 0, 0
	if read {
		r = 1
	}
	if deleted {
		d = 1
	}
	return messageStates[r][d]
}

// covers reports whether the standing tells the states of a range.
func (st Standing) covers(q message.Range, head int64) bool {
	return st.Whole && q.From >= st.From && q.To <= head
}

func (st Standing) stateOf(userID string) StateOf {
	exceptions := make([]state.Exception, len(st.Exceptions))
	for i, seq := range st.Exceptions {
		deleted := seq < 0
		if deleted {
			seq = -seq
		}
		exceptions[i] = state.Exception{SessionID: st.View.SessionID, Seq: seq, Read: true, Deleted: deleted}
	}
	of := state.Of(st.View, exceptions)
	return func(e *wire.Entry) *parleyv1.MessageState {
		return MessageState(of(e.Seq, e.SenderID == userID, e.Type.Countable() && !e.IsDeleted))
	}
}

// snapshot serves the states of one session's backlog.
type snapshot struct {
	standing Standing
	head     int64
	of       StateOf
}

// snapshots are what a stream that starts knows of states. A session is void, now or later, once an event about it came:
// see the package's comment. Guarded by the stream's mutex; the zero value has everything void.
type snapshots struct {
	open  bool // from before the positions are read until the backlog is written
	lost  bool // events may have been missed
	void  map[uuid.UUID]struct{}
	known map[uuid.UUID]snapshot
}

// voided notes that a session's states, or its membership, have changed. The lock is held.
func (n *snapshots) voided(id uuid.UUID) {
	if !n.open {
		return
	}
	if n.void == nil {
		n.void = make(map[uuid.UUID]struct{})
	}
	n.void[id] = struct{}{}
	delete(n.known, id)
}

// keep takes what was read after open was set. The lock is held.
func (n *snapshots) keep(positions []Position, userID string) {
	if n.lost {
		return
	}
	n.known = make(map[uuid.UUID]snapshot, len(positions))
	for _, p := range positions {
		if _, void := n.void[p.SessionID]; !void && p.Head > p.State.From && p.State.Whole {
			n.known[p.SessionID] = snapshot{p.State, p.Head, p.State.stateOf(userID)}
		}
	}
}

// Passed implements hub.Stream: what this device did itself is no news to it, but what was read before is old.
func (s *Stream) Passed(ev *parleyv1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteState(ev)
	s.passed.add(ev)
}

// noteState lets go of what an event makes old. The lock is held.
func (s *Stream) noteState(ev *parleyv1.Event) {
	if st := ev.GetState(); st != nil && s.snapshots.open {
		if id, err := uuid.Parse(st.GetSessionId()); err == nil {
			s.snapshots.voided(id)
		}
	}
}

// statesOf returns what tells the states of each pull's range: that they are as new, the snapshot where it still holds, else
// what is read now.
func (s *Stream) statesOf(ctx context.Context, pulls []pull, ranges []message.Range) ([]StateOf, error) {
	out := make([]StateOf, len(ranges))
	var rest []message.Range
	var places []int
	s.mu.Lock()
	for i, q := range ranges {
		if k, ok := s.snapshots.known[q.SessionID]; ok && k.standing.covers(q, k.head) {
			out[i] = k.of
		} else if s.isFresh(pulls[i]) {
			out[i] = s.asNew
		} else {
			rest, places = append(rest, q), append(places, i)
		}
	}
	s.mu.Unlock()
	if len(rest) == 0 {
		return out, nil
	}
	of, err := s.m.states.StatesOf(ctx, s.userID, rest)
	for _, i := range places {
		out[i] = of
	}
	return out, err
}
