package stream

import (
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// maxListed bounds the lists of a merged StateEvent; past it the event says reload.
const maxListed = 500

// pending holds the events of a user that wait for a stream, merged by what they are about: at most one per session,
// membership and peer, maxSignals signals, and read positions of maxReads members. The zero value is empty. Guarded by the stream's mutex.
type pending struct {
	order   []*parleyv1.Event
	place   map[string]int
	signals int
	reads   int
}

func (p *pending) add(ev *parleyv1.Event) {
	key := ""
	switch k := ev.GetKind().(type) {
	case *parleyv1.Event_State:
		key = "state " + k.State.GetSessionId()
	case *parleyv1.Event_Session:
		key = "session " + k.Session.GetSession().GetSessionId()
	case *parleyv1.Event_Relation:
		key = "relation " + k.Relation.GetRelation().GetUserId()
	case *parleyv1.Event_Presence:
		key = "presence " + k.Presence.GetPresence().GetUserId()
	case *parleyv1.Event_ReadPosition:
		key = "read " + k.ReadPosition.GetSessionId() + k.ReadPosition.GetUserId()
		if _, waits := p.place[key]; !waits {
			if p.reads >= maxReads {
				return
			}
			p.reads++
		}
	case *parleyv1.Event_Signal:
		if p.signals >= maxSignals {
			return
		}
		p.signals++
		p.order = append(p.order, ev)
		return
	}
	if at, ok := p.place[key]; ok {
		p.order[at] = merge(p.order[at], ev)
		return
	}
	if p.place == nil {
		p.place = make(map[string]int)
	}
	p.place[key] = len(p.order)
	p.order = append(p.order, ev)
}

func (p *pending) take() []*parleyv1.Event {
	out := p.order
	*p = pending{}
	return out
}

// merge joins two events about the same thing; the later one wins but for what only the earlier one lists. Of two states
// that is the one with the higher cursors, whichever came first: changes of two devices may be told in another order than
// they were made in.
func merge(old, ev *parleyv1.Event) *parleyv1.Event {
	if was, now := old.GetReadPosition(), ev.GetReadPosition(); was.GetReadSeq() > now.GetReadSeq() {
		return old
	}
	was, now := old.GetState(), ev.GetState()
	if was == nil || now == nil {
		return ev
	}
	if stale(now, was) {
		was, now = now, was
	}
	m := proto.CloneOf(now) // events are shared between streams
	m.ReadSeqs = append(append([]int64(nil), was.GetReadSeqs()...), now.GetReadSeqs()...)
	m.DeletedSeqs = append(append([]int64(nil), was.GetDeletedSeqs()...), now.GetDeletedSeqs()...)
	m.ReadSeq, m.DeletedToSeq = max(was.GetReadSeq(), now.GetReadSeq()), max(was.GetDeletedToSeq(), now.GetDeletedToSeq())
	m.Reload = was.GetReload() || now.GetReload()
	if len(m.GetReadSeqs()) > maxListed || len(m.GetDeletedSeqs()) > maxListed {
		m.ReadSeqs, m.DeletedSeqs, m.Reload = nil, nil, true
	}
	return &parleyv1.Event{Kind: &parleyv1.Event_State{State: m}}
}

// stale reports whether a state is older than another one of the same session: cursors never move back.
func stale(st, than *parleyv1.StateEvent) bool {
	return st.GetReadSeq() < than.GetReadSeq() || st.GetDeletedToSeq() < than.GetDeletedToSeq()
}

// toldState is a state as a device was told it, without what was listed.
type toldState struct {
	readSeq, deletedToSeq, unread int64
	markedUnread                  bool
	upTo                          int64 // the last seq that anything was told of
}

// writeEvent writes one of the user's events. Read positions are told live only, and only of sessions that the user sees.
func (s *Stream) writeEvent(ev *parleyv1.Event) {
	if p := ev.GetReadPosition(); p != nil && !(s.caught && s.sees(p.GetSessionId())) {
		return
	}
	s.frame.Event(s.inOrder(ev))
}

// sees reports whether the user's membership of a session goes on, as far as the stream has come.
func (s *Stream) sees(sessionID string) bool {
	id, err := uuid.Parse(sessionID)
	t := s.tracks[id]
	if err != nil || t == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !t.closed
}

// inOrder returns an event as it is to be sent: a state that is older than the one which the device was told before comes
// with the cursors, count and flag of that one, and only what it lists is news.
func (s *Stream) inOrder(ev *parleyv1.Event) *parleyv1.Event {
	st := ev.GetState()
	if st == nil {
		return ev
	}
	if last, ok := s.told[st.GetSessionId()]; ok {
		before := &parleyv1.StateEvent{SessionId: st.GetSessionId(), ReadSeq: last.readSeq, DeletedToSeq: last.deletedToSeq,
			Unread: last.unread, MarkedUnread: last.markedUnread}
		if stale(st, before) {
			last.upTo = max(last.upTo, upTo(st))
			s.told[st.GetSessionId()] = last
			return merge(&parleyv1.Event{Kind: &parleyv1.Event_State{State: before}}, ev)
		}
	}
	if s.told == nil {
		s.told = make(map[string]toldState)
	}
	s.told[st.GetSessionId()] = toldState{st.GetReadSeq(), st.GetDeletedToSeq(), st.GetUnread(), st.GetMarkedUnread(),
		max(s.told[st.GetSessionId()].upTo, upTo(st))}
	return ev
}
