package hints_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/hints"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// air is a pub/sub in memory that can go mute: then it takes everything and gives nothing.
type air struct {
	links int
	mu    sync.Mutex
	subs  map[*ear]struct{}
	mute  bool

	probes int // published, heard or not
}

type ear struct {
	a      *air
	names  map[string]bool // guarded by air.mu
	got    chan []byte
	closed chan struct{}
}

func newAir(links int) *air { return &air{links: links, subs: map[*ear]struct{}{}} }

func (a *air) setMute(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mute = on
}

func (a *air) Links() int { return a.links }

func (a *air) Publish(_ context.Context, out []hints.Outgoing) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range out {
		if strings.Contains(o.Channel.Name, ":p:") {
			a.probes++
		}
		for e := range a.subs {
			if e.names[o.Channel.Name] && !a.mute {
				e.got <- o.Payload
			}
		}
	}
	return nil
}

func (a *air) Open(context.Context) hints.Subscription {
	e := &ear{a: a, names: map[string]bool{}, got: make(chan []byte, 10_000), closed: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.subs[e] = struct{}{}
	return e
}

func (a *air) probed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.probes
}

// listeners is how many connections listen to a channel whose name ends so.
func (a *air) listeners(suffix string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for e := range a.subs {
		for name := range e.names {
			if strings.HasSuffix(name, suffix) {
				n++
			}
		}
	}
	return n
}

func (e *ear) set(names []string, on bool) error {
	e.a.mu.Lock()
	defer e.a.mu.Unlock()
	for _, n := range names {
		if on {
			e.names[n] = true
		} else {
			delete(e.names, n)
		}
	}
	return nil
}

func (e *ear) Subscribe(_ context.Context, names []string) error   { return e.set(names, true) }
func (e *ear) Unsubscribe(_ context.Context, names []string) error { return e.set(names, false) }

func (e *ear) Receive(context.Context) ([]byte, error) {
	select {
	case b := <-e.got:
		return b, nil
	case <-e.closed:
		return nil, errors.New("closed")
	}
}

func (e *ear) Close() error {
	e.a.mu.Lock()
	delete(e.a.subs, e)
	e.a.mu.Unlock()
	close(e.closed)
	return nil
}

// node is a node's hints with what they told.
type node struct {
	*hints.Hints
	mu      sync.Mutex
	entries []*wire.Entry
	heads   map[uuid.UUID]int64
	users   []string
	signals int
	changed int
	started []string
	urgent  bool
}

func (n *node) Entries(entries []*wire.Entry) {
	n.note(func() { n.entries = append(n.entries, entries...) })
}
func (n *node) Advanced(id uuid.UUID, head int64) {
	n.note(func() { n.heads[id] = head })
}
func (n *node) Signal(uuid.UUID, *parleyv1.Event) { n.note(func() { n.signals++ }) }
func (n *node) User(user, except string, _ *parleyv1.Event) {
	n.note(func() { n.users = append(n.users, user+"/"+except) })
}
func (n *node) PresenceChanged(string)                     {}
func (n *node) Watch(string, string, []*parleyv1.Presence) {}
func (n *node) Started(user, device string, number int64) {
	n.note(func() { n.started = append(n.started, fmt.Sprint(user, "/", device, " ", number)) })
}
func (n *node) Changed() { n.note(func() { n.changed++ }) }

func (n *node) note(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *node) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return ok()
	}, time.Minute, 2*time.Millisecond, what)
}

func start(t *testing.T, a *air, clock clockwork.Clock, epoch string) *node {
	t.Helper()
	n := &node{heads: map[uuid.UUID]int64{}}
	n.Hints = hints.New(hints.Config{Bus: a, Sink: n, Epoch: func() string { return epoch }, InLife: in(func() string { return epoch }), Clock: clock,
		Log: slog.New(slog.DiscardHandler), Urgent: func(u bool) { n.note(func() { n.urgent = u }) }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return n
}

func entry(id uuid.UUID, seq int64, size int) *wire.Entry {
	return wire.Encode(message.Entry{SessionID: id, Seq: seq, MessageID: uuid.New(), SenderID: strings.Repeat("a", max(1, size)),
		Type: message.TypeText, Body: []byte{}, CreatedAt: time.Unix(1, 0)})
}

func TestNodesWithInterestHear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, nodesWithInterestHear)
}

func nodesWithInterestHear(t *testing.T) {
	for _, links := range []int{1, hints.Buckets} {
		a := newAir(links)
		clock := clockwork.NewRealClock()
		one, two, three := start(t, a, clock, "e"), start(t, a, clock, "e"), start(t, a, clock, "another life")
		session := uuid.New()
		for _, n := range []*node{one, two, three} {
			n.WantSession(session, true)
		}
		two.WantUser("bob", true)
		require.Eventually(t, func() bool {
			return one.Up() && two.Up() && one.Peers() == 1 && two.Peers() == 1 &&
				a.listeners("s:"+session.String()) == 3 && a.listeners("u:bob") == 1
		}, time.Minute, time.Millisecond, "nodes of one life hear of each other")

		one.Committed([]*wire.Entry{entry(session, 1, 1), entry(session, 2, 1), entry(uuid.New(), 1, 1), entry(session, 3, 70_000)})
		one.NotifyUser("bob", "b1", &parleyv1.Event{Kind: &parleyv1.Event_Heartbeat{Heartbeat: &parleyv1.Heartbeat{}}})
		one.Hints.Signal(session, &parleyv1.Event{Kind: &parleyv1.Event_Heartbeat{Heartbeat: &parleyv1.Heartbeat{}}})
		one.Hints.Started("bob", "b2", 7)
		one.Hints.Changed()
		two.eventually(t, "all is heard", func() bool {
			return len(two.entries) == 2 && two.heads[session] == 3 && len(two.users) == 1 && two.signals == 1 && two.changed == 1 && len(two.started) == 1
		})
		require.Equal(t, "bob/b1", two.users[0])
		require.Equal(t, "bob/b2 7", two.started[0])
		require.EqualValues(t, 2, two.entries[1].Seq)
		require.Empty(t, one.entries, "nobody hears themselves")
		require.Empty(t, three.entries, "positions of another life are passed over")
		require.False(t, two.urgent)
	}
}

func TestANodeAloneTellsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, aNodeAloneTellsNothing)
}

func aNodeAloneTellsNothing(t *testing.T) {
	a := newAir(1)
	one := start(t, a, clockwork.NewRealClock(), "e")
	session := uuid.New()
	one.WantSession(session, true)
	require.Eventually(t, func() bool { return one.Up() && a.listeners(session.String()) == 1 }, time.Minute, time.Millisecond)
	spy := a.Open(t.Context())
	require.NoError(t, spy.Subscribe(t.Context(), []string{"hint:{0}:nodes"}))
	one.Committed([]*wire.Entry{entry(session, 1, 1)})
	one.Hints.Changed()
	require.Zero(t, one.Peers())
	late := start(t, a, clockwork.NewRealClock(), "e")
	require.Eventually(t, func() bool { return one.Peers() == 1 && late.Peers() == 1 }, time.Minute, time.Millisecond)
	require.Zero(t, late.changed)
}

// A connection that takes everything and gives nothing is noticed by its probe within 15 s, opened anew, and heard again.
func TestAMuteLinkIsNoticed(t *testing.T) {
	t.Parallel()
	a := newAir(1)
	clock := clockwork.NewFakeClock()
	one := start(t, a, clock, "e")
	session := uuid.New()
	one.WantSession(session, true)
	require.Eventually(t, one.Up, time.Minute, time.Millisecond)
	one.eventually(t, "calm", func() bool { return !one.urgent })
	a.setMute(true)
	began := clock.Now()
	for one.Up() { // the clock goes on once the link has done what it does at this time: probed again, or given up
		before := a.probed()
		clock.Advance(2 * time.Second)
		require.Eventually(t, func() bool { return a.probed() > before || !one.Up() }, time.Minute, time.Millisecond)
	}
	require.LessOrEqual(t, clock.Since(began), 15*time.Second)
	one.eventually(t, "urgent", func() bool { return one.urgent })
	a.setMute(false)
	require.Eventually(t, func() bool {
		clock.Advance(500 * time.Millisecond)
		return one.Up() && a.listeners(session.String()) == 1
	}, time.Minute, 5*time.Millisecond, "heard again, with all its channels")
	one.eventually(t, "calm again", func() bool { return !one.urgent })
}

func TestInterestThatEndsIsGivenUp(t *testing.T) {
	t.Parallel()
	a := newAir(hints.Buckets)
	clock := clockwork.NewFakeClock()
	one := start(t, a, clock, "e")
	ids := make([]uuid.UUID, 2000)
	for i := range ids {
		ids[i] = uuid.New()
		one.WantSession(ids[i], true)
	}
	count := func() (n int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for e := range a.subs {
			for name := range e.names {
				if strings.Contains(name, ":s:") {
					n++
				}
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return count() == len(ids) }, time.Minute, time.Millisecond)
	for _, id := range ids[1:] {
		one.WantSession(id, false)
	}
	require.Eventually(t, func() bool {
		clock.Advance(time.Second)
		return count() == 1
	}, time.Minute, 5*time.Millisecond)
}

func TestWithoutABus(t *testing.T) {
	t.Parallel()
	n := &node{}
	n.Hints = hints.New(hints.Config{Sink: n, Epoch: func() string { return "e" }, InLife: in(func() string { return "e" }), Clock: clockwork.NewRealClock(),
		Log: slog.New(slog.DiscardHandler), Urgent: func(u bool) { n.urgent = u }})
	n.WantSession(uuid.New(), true)
	n.Committed([]*wire.Entry{entry(uuid.New(), 1, 1)})
	n.Run(t.Context())
	require.True(t, n.urgent, "the feed makes up for it")
	require.False(t, n.Up())
}

// in is hints.Config.InLife for a life that does not change meanwhile.
func in(life func() string) func(string, func()) bool {
	return func(epoch string, tell func()) bool {
		if epoch != life() {
			return false
		}
		tell()
		return true
	}
}
