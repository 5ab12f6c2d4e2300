package model

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// device is one of a user's, with what the server keeps of it and, while it is online, its stream.
type device struct {
	api
	user, name string

	synced bool             // it has taken its sessions over once
	acked  map[string]int64 // its stored cursors
	known  map[string]int64 // its own: how far it was shown each session
	live   *live            // nil while it is offline
}

// live is a stream and what it has shown, held against the model as it is taken in.
type live struct {
	*stream
	tracks   map[string]*track
	own      map[string]map[int64]bool // its own sends while it was open: their answers may take their places
	resyncs  map[string]bool           // expected ones that have not come
	caughtUp bool
	states   map[string]*parleyv1.StateEvent // the last one of each session, for cursors that move back
	recent   []*parleyv1.Event               // other events of the present step
}

// track is one session on one stream: everything up to at is accounted for. What is visible up to skip may be left out
// with notice, and must be where the backlog was limited from the start.
type track struct {
	at, skip int64
	initial  bool
}

// settled takes in what comes until ok holds.
func (d *device) settled(t *rapid.T, w *world, what string, ok func() bool) {
	d.take(t, w, d.live.drain())
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s/%s waits for %s", d.user, d.name, what)
		}
		events, err := d.live.wait(time.Until(deadline))
		if err != nil {
			t.Fatalf("%s/%s waits for %s: the stream ended: %v", d.user, d.name, what, err)
		}
		d.take(t, w, events)
	}
}

func (d *device) take(t *rapid.T, w *world, events []*parleyv1.Event) {
	for _, ev := range events {
		switch k := ev.GetKind().(type) {
		case *parleyv1.Event_Message:
			d.takeMessage(t, w, k.Message)
		case *parleyv1.Event_Skipped:
			d.takeSkipped(t, w, k.Skipped)
		case *parleyv1.Event_Resync:
			id := k.Resync.GetSessionId()
			if !d.live.resyncs[id] || k.Resync.GetReason() != parleyv1.ResyncReason_RESYNC_REASON_CURSOR_BEYOND_HEAD {
				t.Fatalf("%s/%s: unexpected %v", d.user, d.name, k.Resync)
			}
			delete(d.live.resyncs, id)
		case *parleyv1.Event_CaughtUp:
			if want := w.unreadTotal(d.user); k.CaughtUp.GetUnreadTotal() != want || d.live.caughtUp {
				t.Fatalf("%s/%s: caught up with %d unread (before: %t), want %d", d.user, d.name,
					k.CaughtUp.GetUnreadTotal(), d.live.caughtUp, want)
			}
			d.live.caughtUp = true
		case *parleyv1.Event_State:
			d.takeState(t, k.State)
		}
		d.live.recent = append(d.live.recent, ev)
	}
}

// takeState sees that no cursor moves back.
func (d *device) takeState(t *rapid.T, ev *parleyv1.StateEvent) {
	was := d.live.states[ev.GetSessionId()]
	if ev.GetReadSeq() < was.GetReadSeq() || ev.GetDeletedToSeq() < was.GetDeletedToSeq() {
		t.Fatalf("%s/%s: cursors moved back: %v after %v", d.user, d.name, ev, was)
	}
	d.live.states[ev.GetSessionId()] = ev
}

// takeMessage sees that an entry is visible, comes next, and is what was written.
func (d *device) takeMessage(t *rapid.T, w *world, got *parleyv1.Message) {
	c, seq := w.chat(got.GetSessionId()), got.GetSeq()
	if c == nil || !c.visible(d.user, seq) {
		t.Fatalf("%s/%s was shown %s %d, which it cannot see", d.user, d.name, got.GetSessionId(), seq)
	}
	tr := d.track(c)
	if seq <= tr.at {
		t.Fatalf("%s/%s was shown %s %d after %d", d.user, d.name, c.id, seq, tr.at)
	}
	if d.bridge(c, tr.at) < seq-1 {
		t.Fatalf("%s/%s was shown %s %d right after %d", d.user, d.name, c.id, seq, tr.at)
	}
	if tr.initial && seq <= tr.skip {
		t.Fatalf("%s/%s was shown %s %d of a backlog that begins after %d", d.user, d.name, c.id, seq, tr.skip)
	}
	tr.at = seq
	if d.live.own[c.id][seq] { // may come whenever it likes, or not at all: what it was like then cannot be said
		if e := c.at(seq); got.GetMessageId() != e.id || got.GetSenderId() != e.sender {
			t.Fatalf("%s/%s: %v is not what was sent", d.user, d.name, got)
		}
		return
	}
	want := c.message(seq, got)
	if got.GetState() != nil {
		want = c.messageFor(d.user, seq, got)
	}
	same(t, want, got)
}

// takeSkipped sees that what is left out comes next, and only leaves out what may be.
func (d *device) takeSkipped(t *rapid.T, w *world, got *parleyv1.Skipped) {
	c := w.chat(got.GetSessionId())
	if c == nil || c.members[d.user] == nil {
		t.Fatalf("%s/%s: %v of a session that it cannot see", d.user, d.name, got)
	}
	tr := d.track(c)
	if at := d.bridge(c, tr.at); got.GetFromSeq() > at+1 || got.GetFromSeq() <= tr.at || got.GetToSeq() < got.GetFromSeq() {
		t.Fatalf("%s/%s: %v after %d", d.user, d.name, got, tr.at)
	}
	for seq := got.GetFromSeq(); seq <= got.GetToSeq(); seq++ {
		if c.visible(d.user, seq) && seq > tr.skip && !d.live.own[c.id][seq] {
			t.Fatalf("%s/%s: %v leaves out %d, which it may see", d.user, d.name, got, seq)
		}
	}
	tr.at = got.GetToSeq()
}

// bridge moves past own sends.
func (d *device) bridge(c *chat, at int64) int64 {
	for d.live.own[c.id][at+1] {
		at++
	}
	return at
}

// track returns the session's track; one that begins while the stream is open starts where its user came in, or at the
// device's cursor.
func (d *device) track(c *chat) *track {
	tr := d.live.tracks[c.id]
	if tr == nil {
		tr = &track{at: d.begin(c, false)}
		if n := d.live.maxBacklog; n > 0 {
			tr.skip = c.last(d.user) - n
		}
		d.live.tracks[c.id] = tr
	}
	return tr
}

// complete reports whether the device was shown all that it must be shown of a session.
func (d *device) complete(c *chat) bool {
	return c.last(d.user) <= d.bridge(c, d.track(c).at)
}

// same fails unless two messages are equal.
func same(t *rapid.T, want, got proto.Message) {
	if !proto.Equal(want, got) {
		t.Fatalf("want %v\ngot  %v", want, got)
	}
}

// stream is one Subscribe call that somebody reads.
type stream struct {
	maxBacklog int64
	stop       context.CancelFunc
	done       chan struct{}
	more       chan struct{} // has room for one

	mu     sync.Mutex
	events []*parleyv1.Event
	err    error
	ended  bool
}

func subscribe(a api, req *parleyv1.SubscribeRequest) *stream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{maxBacklog: int64(req.GetMaxBacklog()), stop: cancel, done: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer close(s.done)
		err := s.read(ctx, a, req)
		s.put(nil, err, true)
	}()
	return s
}

func (s *stream) read(ctx context.Context, a api, req *parleyv1.SubscribeRequest) error {
	in, err := a.Subscribe(ctx, req)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	for in.Receive() {
		s.put(in.Msg().GetEvents(), nil, false)
	}
	return in.Err()
}

func (s *stream) put(events []*parleyv1.Event, err error, ended bool) {
	s.mu.Lock()
	s.events, s.err, s.ended = append(s.events, events...), err, ended
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// drain returns what has come and was not taken yet.
func (s *stream) drain() []*parleyv1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.events
	s.events = nil
	return out
}

// wait is drain that waits for something to come; the error says that nothing ever will.
func (s *stream) wait(within time.Duration) ([]*parleyv1.Event, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		s.mu.Lock()
		out, err, ended := s.events, s.err, s.ended
		s.events = nil
		s.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
		if ended {
			if err == nil {
				err = context.Canceled
			}
			return nil, err
		}
		select {
		case <-s.more:
		case <-timer.C:
			return nil, nil
		}
	}
}

// close ends the stream and waits for its reader.
func (s *stream) close() {
	s.stop()
	<-s.done
}
