package hints

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

const (
	// subscribeAtOnce is how many channels one command names.
	subscribeAtOnce = 500
	// probeEvery is how often a link is probed.
	probeEvery = 2 * time.Second
	// probePatience is how long a link may be mute: with probeEvery, a mute one is noticed within 8 s.
	probePatience = 6 * time.Second
	// reopenAfter is the longest wait before a connection is tried again; the wait is random.
	reopenAfter = time.Second
)

// link is one connection's life. All but the channel belongs to the goroutine that runs it.
type link struct {
	h       *Hints
	n       int
	sub     Subscription
	have    map[string]struct{}
	probe   int64
	heardAt time.Time
	answers chan int64 // probes that came back
}

// runLink keeps link n open until ctx ends.
func (h *Hints) runLink(ctx context.Context, n int) {
	for ctx.Err() == nil {
		h.serveLink(ctx, n)
		h.up[n].Store(false)
		h.judge(ctx)
		wait := h.clock.NewTimer(time.Duration(rand.Int64N(int64(reopenAfter)))) //nolint:gosec // only spreads load
		select {
		case <-ctx.Done():
		case <-wait.Chan():
		}
		wait.Stop()
	}
}

// serveLink opens the connection and serves it until it is lost or mute.
func (h *Hints) serveLink(ctx context.Context, n int) {
	ctx, cancel := context.WithCancel(ctx)
	l := &link{h: h, n: n, sub: h.bus.Open(ctx), have: make(map[string]struct{}), heardAt: h.clock.Now(), answers: make(chan int64, 4)}
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		l.receive(ctx)
	}()
	defer func() {
		cancel()
		_ = l.sub.Close()
		<-lost
	}()
	h.in.again(n)
	own := []string{probeChannel(n, h.node).Name}
	if n == 0 {
		own = append(own, nodesChannel().Name)
	}
	if l.sub.Subscribe(ctx, own) != nil || !l.subscribeFresh(ctx) {
		return
	}
	tick := h.clock.NewTicker(probeEvery)
	defer tick.Stop()
	l.sendProbe(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-lost:
			return
		case <-h.in.wake[n]:
			if !l.subscribeFresh(ctx) {
				return
			}
		case answer := <-l.answers:
			l.answered(ctx, answer)
		case <-tick.Chan():
			if h.clock.Since(l.heardAt) > probePatience || !l.giveUp(ctx) {
				return
			}
			l.sendProbe(ctx)
		}
	}
}

func (l *link) subscribeFresh(ctx context.Context) bool {
	for {
		names := l.h.in.takeFresh(l.n, subscribeAtOnce)
		if len(names) == 0 {
			return true
		}
		for _, name := range names {
			l.have[name] = struct{}{}
		}
		if l.sub.Subscribe(ctx, names) != nil {
			return false
		}
	}
}

// giveUp unsubscribes from what nobody wants any more.
func (l *link) giveUp(ctx context.Context) bool {
	names := l.h.in.unwanted(l.n, l.have)
	for len(names) > 0 {
		some := names[:min(len(names), subscribeAtOnce)]
		names = names[len(some):]
		for _, name := range some {
			delete(l.have, name)
		}
		if l.sub.Unsubscribe(ctx, some) != nil {
			return false
		}
	}
	return true
}

// sendProbe publishes a probe past the queue: it tells of the way there and back, not of how much waits.
func (l *link) sendProbe(ctx context.Context) {
	l.probe++
	m := message{kind: kindProbe, node: l.h.node, seq: l.probe}
	_ = l.h.bus.Publish(ctx, []Outgoing{{probeChannel(l.n, l.h.node), m.encode()}}) // the answer is what counts
}

func (l *link) answered(ctx context.Context, probe int64) {
	if probe != l.probe {
		return // of an earlier one, or of an earlier connection
	}
	l.heardAt = l.h.clock.Now()
	l.h.up[l.n].Store(true)
	l.h.judge(ctx)
}

// receive hands on what comes until the connection is lost.
func (l *link) receive(ctx context.Context) {
	for {
		raw, err := l.sub.Receive(ctx)
		if err != nil {
			return
		}
		m, err := decode(raw)
		if err != nil {
			l.h.metrics.bad()
			continue
		}
		if m.kind == kindProbe && m.node == l.h.node {
			select {
			case l.answers <- m.seq:
			default:
			}
			continue
		}
		if m.node != l.h.node {
			l.h.take(m)
		}
	}
}

// take hands on what another node said.
func (h *Hints) take(m message) {
	if m.epoch != h.epoch() {
		return // of another database; or of another life, whose positions mean nothing: the feed will tell
	}
	if m.kind == kindBeat {
		h.mu.Lock()
		_, known := h.peers[m.node]
		h.peers[m.node] = h.clock.Now()
		h.mu.Unlock()
		if !known {
			h.put(nodesChannel(), message{kind: kindBeat})
		}
		return
	}
	h.metrics.hear()
	h.inLife(m.epoch, func() { h.handOn(m) })
}

func (h *Hints) handOn(m message) {
	switch m.kind { //nolint:exhaustive // kinds of later versions are passed over
	case kindEntries:
		entries, err := m.decodeEntries()
		if err != nil || len(entries) == 0 {
			h.metrics.bad()
			return
		}
		h.sink.Entries(entries)
	case kindAdvanced:
		h.sink.Advanced(m.session, m.seq)
	case kindSignal, kindUser:
		ev, err := m.decodeEvent()
		switch {
		case err != nil:
			h.metrics.bad()
		case m.kind == kindSignal:
			h.sink.Signal(m.session, ev)
		default:
			h.sink.User(m.user, m.device, ev)
		}
	case kindStarted:
		h.sink.Started(m.user, m.device, m.seq)
	case kindChanged:
		h.sink.Changed()
	case kindPresence:
		h.sink.PresenceChanged(m.user)
	case kindWatch:
		var w parleyv1.WatchPresenceResponse
		if proto.Unmarshal(m.event, &w) != nil {
			h.metrics.bad()
			return
		}
		h.sink.Watch(m.user, m.device, w.GetPresences())
	}
}
