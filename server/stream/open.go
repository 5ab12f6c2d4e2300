package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/wire"
)

// Request is where a device wants to start.
type Request struct {
	Cursors    []Cursor
	Epoch      string // of the cursors; empty means the present one
	MaxBacklog int64  // entries per session; 0: all for a known device, the last ones for a new one
	Fresh      bool   // forget the device's cursors
}

var errEpochChanged = errors.New("epoch changed")

func newStream(m *Manager, caller Caller, req Request, sink Sink) *Stream {
	return &Stream{m: m, userID: caller.UserID, deviceID: caller.DeviceID, wake: make(chan struct{}, 1),
		ended: make(chan struct{}), tracks: make(map[uuid.UUID]*track), frame: wire.NewFrame(sink.Codec()), sink: sink,
		limit: req.MaxBacklog}
}

// successor is the stream that goes on in this one's place when the epoch has changed. What is to end this one ends it.
func (s *Stream) successor() *Stream {
	next := newStream(s.m, Caller{UserID: s.userID, DeviceID: s.deviceID}, Request{MaxBacklog: s.limit}, s.sink)
	next.again, next.direct = true, s.direct
	s.mu.Lock()
	s.next = next
	s.mu.Unlock()
	return next
}

// open registers for what is new first and reads heads and cursors afterwards, so that nothing falls between.
func (s *Stream) open(ctx context.Context, req Request) error {
	epoch := s.m.epoch.Current()
	if !s.again {
		if err := s.sayOpened(epoch); err != nil {
			return err
		}
	}
	if req.Epoch != "" && req.Epoch != epoch {
		s.sayResync(parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED, "", epoch)
		req.Cursors, req.Fresh = nil, true
	}
	s.snapshots.open = true // nobody knows the stream yet
	s.m.hub.AttachUser(s.userID, s)
	ids, err := s.m.sessions.ActiveSessionIDs(ctx, s.userID)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	for _, id := range ids {
		s.attach(s.newTrack(id))
	}
	at, err := s.m.arrivals.get(ctx, Ask{UserID: s.userID, DeviceID: s.deviceID, Fresh: req.Fresh,
		Named: len(req.Cursors) > 0, Counted: true, RoamBacklog: s.m.cfg.RoamBacklog})
	if err != nil {
		return fmt.Errorf("read positions: %w", err)
	}
	number, err := s.m.numbered(s, at.Number)
	if err != nil {
		return err
	}
	s.m.devices.Seen(s.userID, s.deviceID, number)
	s.unread = at.unread()
	s.mu.Lock()
	s.snapshots.keep(at.Positions, s.userID)
	s.mu.Unlock()
	return s.start(ctx, req, at.Positions, !at.Synced || req.Fresh)
}

// start puts every track where the device stands. roams: the device starts afresh.
func (s *Stream) start(ctx context.Context, req Request, positions []Position, roams bool) error {
	asked := make(map[uuid.UUID]int64, len(req.Cursors))
	for _, c := range req.Cursors {
		asked[c.SessionID] = c.Seq
	}
	var begin []Cursor
	for _, p := range positions {
		if _, named := asked[p.SessionID]; !named && p.done() {
			continue
		}
		from := p.start(roams)
		floor := int64(0) // where a roaming device starts to count its backlog
		if seq, ok := asked[p.SessionID]; ok {
			delete(asked, p.SessionID)
			if seq > p.Visible.Last(p.Head) {
				s.sayResync(parleyv1.ResyncReason_RESYNC_REASON_CURSOR_BEYOND_HEAD, p.SessionID.String(), s.m.epoch.Current())
				floor = s.m.cfg.RoamBacklog
			} else {
				from = seq
			}
		} else if roams {
			floor = s.m.cfg.RoamBacklog
		}
		t := s.tracks[p.SessionID]
		if t == nil && p.Active { // joined in between: read again once it is attached
			s.begins(p.SessionID, beginning{from, floor})
			s.Joined(p.SessionID)
			continue
		}
		if t == nil {
			t = s.newTrack(p.SessionID)
		}
		at := s.place(t, p, from, floor, true)
		if roams {
			begin = append(begin, Cursor{p.SessionID, at})
		}
	}
	for id := range asked {
		s.sayResync(parleyv1.ResyncReason_RESYNC_REASON_SESSION_UNAVAILABLE, id.String(), s.m.epoch.Current())
	}
	s.dropUnplaced()
	if roams {
		if err := s.m.devices.StartSync(ctx, s.userID, s.deviceID, begin); err != nil {
			return fmt.Errorf("store starting positions: %w", err)
		}
	}
	return nil
}

// start is the last seq that the device is taken to have, before any limit.
func (p Position) start(roams bool) int64 {
	switch {
	case p.HasCursor && !roams:
		return p.Acked
	case len(p.Visible) > 1 && !roams:
		return p.Visible.First() - 1
	default:
		return p.JoinedSeq - 1
	}
}

// done reports whether the membership has ended and the device has acknowledged its end.
func (p Position) done() bool {
	return !p.Active && p.HasCursor && p.Acked >= p.Visible.Last(p.Head)
}

// beginning is where the device is to start in a session that was not known to be one of its user's when the stream began
// to open.
type beginning struct{ from, floor int64 }

func (s *Stream) begins(id uuid.UUID, at beginning) {
	if s.beginnings == nil {
		s.beginnings = make(map[uuid.UUID]beginning)
	}
	s.beginnings[id] = at
}

// place sets a track to what was read of it and returns where it starts: after from, less what a limit leaves out.
// floor, when positive, is the limit for devices that start afresh.
func (s *Stream) place(t *track, p Position, from, floor int64, initial bool) int64 {
	last := p.Visible.Last(p.Head)
	at := from
	if limit := s.backlogLimit(floor); limit > 0 {
		at = max(at, last-limit)
	}
	if floor > 0 {
		at = max(at, min(p.DeletedToSeq, last))
	}
	if at > from {
		s.saySkipped(t, from+1, at) // what lies between two memberships too
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.loading = false
	t.visible, t.asOf, t.role, t.own = p.Visible, p.Head, p.Role, p.Settings
	t.taken = at
	t.head = max(t.head, p.Head)
	t.fallBehind(p.Head)
	t.fresh = t.head
	if initial {
		t.initial = true
		s.initial++
	}
	return at
}

// reload reads memberships again that began or changed while the stream is open.
func (s *Stream) reload(ctx context.Context, ids []uuid.UUID) error {
	for _, id := range ids {
		t := s.tracks[id]
		if t == nil {
			t = s.newTrack(id)
		}
		if !t.attached {
			s.attach(t)
		}
	}
	positions, err := s.m.sessions.Positions(ctx, s.userID, s.deviceID, ids)
	if err != nil {
		return fmt.Errorf("read positions: %w", err)
	}
	for _, p := range positions {
		t := s.tracks[p.SessionID]
		changed := s.changes(t, p)
		if at, ok := s.beginnings[p.SessionID]; t.loading && ok {
			delete(s.beginnings, p.SessionID)
			s.place(t, p, at.from, at.floor, !s.caught)
		} else if t.loading {
			s.place(t, p, p.start(false), 0, false)
		} else {
			s.update(t, p)
		}
		if changed && p.Active {
			view, err := s.m.sessions.View(ctx, s.userID, p.SessionID)
			if err != nil {
				if _, refused := refusal.Of(err); refused {
					continue // gone again already; the log says so
				}
				return fmt.Errorf("read session: %w", err)
			}
			s.frame.Event(&parleyv1.Event{Kind: &parleyv1.Event_Session{Session: &parleyv1.SessionEvent{Session: view}}})
		}
	}
	s.dropUnplaced()
	return nil
}

// changes reports whether what was read of a membership is news to its track.
func (s *Stream) changes(t *track, p Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.loading || t.closed || t.role != p.Role || t.own != p.Settings
}

// update sets a running track to a membership read again. One that was read before the track saw its own end is stale.
func (s *Stream) update(t *track, p Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Head < t.cut {
		if s.joined == nil {
			s.joined = make(map[uuid.UUID]struct{})
		}
		s.joined[t.sessionID] = struct{}{}
		return
	}
	t.visible, t.asOf, t.role, t.own = p.Visible, p.Head, p.Role, p.Settings
	t.fresh = max(t.head, p.Head)
	if t.closed || p.Head > t.head {
		t.fallBehind(p.Head)
	}
}

func (s *Stream) backlogLimit(floor int64) int64 {
	switch {
	case floor == 0:
		return s.limit
	case s.limit == 0:
		return floor
	default:
		return min(s.limit, floor)
	}
}

func (s *Stream) sayResync(why parleyv1.ResyncReason, sessionID, epoch string) {
	s.frame.Event(&parleyv1.Event{Kind: &parleyv1.Event_Resync{Resync: &parleyv1.Resync{
		Reason: why, SessionId: sessionID, Epoch: epoch}}})
}

// newTrack makes a track that waits to be placed.
func (s *Stream) newTrack(id uuid.UUID) *track {
	t := &track{s: s, sessionID: id, loading: true, behind: true}
	s.tracks[id] = t
	s.mu.Lock()
	s.behind = append(s.behind, t)
	s.mu.Unlock()
	return t
}

func (s *Stream) attach(t *track) {
	t.attached = true
	s.m.hub.Attach(t.sessionID, t)
}

// detach ends the interest in a session. The track stays: it knows what was sent, should the user come back.
func (s *Stream) detach(t *track) {
	if t.attached {
		t.attached = false
		s.m.hub.Detach(t.sessionID, t)
	}
}

// dropUnplaced lets go of tracks that turned out not to be the user's any more.
func (s *Stream) dropUnplaced() {
	for _, t := range s.tracks {
		s.mu.Lock()
		unplaced := t.loading
		if unplaced {
			t.closed = true
			for i, b := range s.behind {
				if b == t {
					s.behind = append(s.behind[:i], s.behind[i+1:]...)
					break
				}
			}
		}
		s.mu.Unlock()
		if unplaced {
			s.detach(t)
			delete(s.tracks, t.sessionID)
		}
	}
}

// close takes the stream out of the hub. Nothing is offered to it afterwards.
func (s *Stream) close() {
	s.m.hub.DetachUser(s.userID, s)
	for _, t := range s.tracks {
		if t.attached {
			s.m.hub.Detach(t.sessionID, t)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m.queueBytes.Add(-int64(s.queueBytes))
	s.queue, s.queueBytes, s.behind = nil, 0, nil
}
