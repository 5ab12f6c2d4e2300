package presence_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/presence"
)

// world is a board, an audience, and what joins nodes, in memory.
type world struct {
	clock *clockwork.FakeClock
	mu    sync.Mutex
	board map[string]map[string]string // user, device, node
	down  bool                         // the board fails
	alone bool                         // nodes do not hear each other
	alive map[string]bool
	deny  map[string]bool // "viewer user"
	never map[string]bool // users who were never seen
	nodes map[string]*node
}

func newWorld() *world {
	return &world{clock: clockwork.NewFakeClock(), board: map[string]map[string]string{}, alive: map[string]bool{},
		deny: map[string]bool{}, never: map[string]bool{}, nodes: map[string]*node{}}
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) Put(_ context.Context, name string, changes []presence.Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return context.DeadlineExceeded
	}
	for _, c := range changes {
		if w.board[c.UserID] == nil {
			w.board[c.UserID] = map[string]string{}
		}
		switch {
		case c.Online:
			w.board[c.UserID][c.DeviceID] = name
		case w.board[c.UserID][c.DeviceID] == name:
			delete(w.board[c.UserID], c.DeviceID)
		}
	}
	return nil
}

func (w *world) Get(_ context.Context, users []string) ([][]presence.Place, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, context.DeadlineExceeded
	}
	out := make([][]presence.Place, len(users))
	for i, u := range users {
		for d, n := range w.board[u] {
			out[i] = append(out[i], presence.Place{Device: d, Node: n})
		}
	}
	return out, nil
}

var longAgo = time.Unix(1000, 0)

func (w *world) Visible(_ context.Context, viewer string, users []string) (out []presence.Seen, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range slices.Sorted(slices.Values(users)) {
		if !w.deny[viewer+" "+u] {
			seen := presence.Seen{UserID: u, LastSeen: longAgo}
			if w.never[u] {
				seen.LastSeen = time.Time{}
			}
			out = append(out, seen)
		}
	}
	return out, nil
}

// node is one node: its tracker, its streams, and what they were told.
type node struct {
	w    *world
	name string
	*presence.Tracker
	service *presence.Service
	mu      sync.Mutex
	streams map[string]bool
	told    map[string][]string // by device: "user online" and "user offline"
	seen    map[string]string   // by "device user": when last, as told last; empty: was not told
	want    map[string]bool
}

func (w *world) node(name string) *node {
	n := &node{w: w, name: name, streams: map[string]bool{}, told: map[string][]string{}, seen: map[string]string{}, want: map[string]bool{}}
	n.Tracker = presence.NewTracker(w, w, (*link)(n), (*streams)(n), w.clock, slog.New(slog.DiscardHandler))
	n.service = presence.NewService(n.Tracker, w)
	w.set(func() { w.alive[name] = true; w.nodes[name] = n })
	return n
}

// connect opens a stream of "user/device", disconnect ends it.
func (n *node) connect(device string) {
	n.mu.Lock()
	n.streams[device] = true
	n.mu.Unlock()
	user, d, _ := strings.Cut(device, "/")
	n.Online(user, d, true)
}

func (n *node) disconnect(device string) {
	n.mu.Lock()
	delete(n.streams, device)
	n.mu.Unlock()
	user, d, _ := strings.Cut(device, "/")
	n.Online(user, d, false)
}

// took returns what a device was told, and forgets it.
func (n *node) took(device string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.told[device]
	delete(n.told, device)
	return out
}

type streams node

func (s *streams) Has(user, device string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[user+"/"+device]
}

func (s *streams) NotifyDevice(user, device string, ev *parleyv1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := ev.GetPresence().GetPresence()
	is := " offline"
	if p.GetIsOnline() {
		is = " online"
	}
	s.told[user+"/"+device] = append(s.told[user+"/"+device], p.GetUserId()+is)
	s.seen[user+"/"+device+" "+p.GetUserId()] = ""
	if at := p.GetLastSeenAt(); at != nil {
		s.seen[user+"/"+device+" "+p.GetUserId()] = at.AsTime().Format(time.RFC3339)
	}
}

type link node

func (l *link) Node() string { return l.name }

func (l *link) Alive(name string) bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.alive[name]
}

func (l *link) Alone() bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.alone
}

func (l *link) others(f func(*node)) {
	var all []*node
	l.w.set(func() {
		for name, n := range l.w.nodes {
			if name != l.name {
				all = append(all, n)
			}
		}
	})
	for _, n := range all {
		f(n)
	}
}

func (l *link) PresenceChanged(user string) { l.others(func(n *node) { n.Look(user) }) }

func (l *link) Watch(user, device string, p []*parleyv1.Presence) {
	l.others(func(n *node) { n.Tracker.Watch(user, device, p) })
}

func (l *link) WantPresence(user string, here bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want[user] = here
}

func (w *world) rounds(t *testing.T) {
	for _, name := range []string{"one", "two", "one", "two"} {
		if n := w.nodes[name]; n != nil && w.alive[name] {
			n.Round(t.Context())
		}
	}
}

func online(t *testing.T, n *node, viewer, user string) presence.Presence {
	t.Helper()
	got, err := n.service.Get(t.Context(), viewer, []string{user})
	require.NoError(t, err)
	require.Len(t, got, 1)
	return got[0]
}

func TestPresenceAcrossNodes(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one, two := w.node("one"), w.node("two")
	one.connect("alice/a1")
	now, err := one.service.Watch(t.Context(), "alice", "a1", []string{"bob", "carol"})
	require.NoError(t, err)
	require.Len(t, now, 2)
	require.Equal(t, []string{"bob offline", "carol offline"}, one.took("alice/a1"))
	require.Equal(t, longAgo, now[0].LastSeen)
	w.rounds(t)
	one.took("alice/a1") // each is told once more when the board was read
	require.True(t, one.want["bob"])

	two.connect("bob/b1")
	w.rounds(t)
	require.Equal(t, []string{"bob online"}, one.took("alice/a1"))
	require.Equal(t, []string{"b1"}, online(t, one, "alice", "bob").Devices)
	require.Empty(t, online(t, one, "alice", "bob").Proto("alice").GetDeviceIds(), "devices are the user's own business")
	require.Equal(t, []string{"b1"}, online(t, one, "bob", "bob").Proto("bob").GetDeviceIds())

	// A second device tells nobody that bob is online again... but which devices are on is known.
	one.connect("bob/b2")
	w.rounds(t)
	one.took("alice/a1")
	require.Equal(t, []string{"b1", "b2"}, online(t, two, "alice", "bob").Devices)

	// Reconnecting within the grace changes nothing.
	two.disconnect("bob/b1")
	w.clock.Advance(presence.Grace / 2)
	w.rounds(t)
	two.connect("bob/b1")
	w.clock.Advance(presence.Grace)
	w.rounds(t)
	require.Empty(t, one.took("alice/a1"))

	// Moving to another node neither: the old node's end does not take the new one's entry away.
	two.disconnect("bob/b1")
	one.connect("bob/b1")
	w.rounds(t)
	w.clock.Advance(2 * presence.Grace)
	w.rounds(t)
	require.Empty(t, one.took("alice/a1"))
	require.Equal(t, []string{"b1", "b2"}, online(t, two, "alice", "bob").Devices)

	one.disconnect("bob/b1")
	one.disconnect("bob/b2")
	w.clock.Advance(2 * presence.Grace)
	w.rounds(t)
	told := one.took("alice/a1")
	require.Equal(t, "bob offline", told[len(told)-1])

	// The watch ends with the stream.
	one.disconnect("alice/a1")
	require.False(t, one.want["bob"])
}

func TestADeadNodesDevicesAreOffline(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one, two := w.node("one"), w.node("two")
	one.connect("alice/a1")
	two.connect("bob/b1")
	_, err := one.service.Watch(t.Context(), "alice", "a1", []string{"bob"})
	require.NoError(t, err)
	w.rounds(t)
	told := one.took("alice/a1")
	require.Equal(t, "bob online", told[len(told)-1])
	w.set(func() { w.alive["two"] = false })
	w.rounds(t)
	require.Equal(t, []string{"bob offline"}, one.took("alice/a1"))
	require.Empty(t, online(t, one, "alice", "bob").Devices)
}

func TestAWatchMayBeSetOnAnotherNode(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one, two := w.node("one"), w.node("two")
	one.connect("alice/a1")
	_, err := two.service.Watch(t.Context(), "alice", "a1", []string{"bob"})
	require.NoError(t, err)
	require.Equal(t, []string{"bob offline"}, one.took("alice/a1"))
	two.connect("bob/b1")
	w.rounds(t)
	told := one.took("alice/a1")
	require.Equal(t, "bob online", told[len(told)-1])
}

func TestWithoutABoardANodeTellsWhatItKnows(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one, two := w.node("one"), w.node("two")
	w.down = true
	one.connect("alice/a1")
	_, err := one.service.Watch(t.Context(), "alice", "a1", []string{"bob"})
	require.NoError(t, err)
	one.connect("bob/b1")
	w.rounds(t)
	told := one.took("alice/a1")
	require.Equal(t, "bob online", told[len(told)-1])
	require.Empty(t, online(t, two, "alice", "bob").Devices)

	w.set(func() { w.down = false }) // what it did not take is written now
	w.rounds(t)
	require.Equal(t, []string{"b1"}, online(t, two, "alice", "bob").Devices)
	w.set(func() { clear(w.board) }) // and again after a flush
	w.clock.Advance(presence.RefreshEvery)
	w.rounds(t)
	require.Equal(t, []string{"b1"}, online(t, two, "alice", "bob").Devices)
}

func TestANodeAloneWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.alone = true
	one, two := w.node("one"), w.node("two")
	one.connect("bob/b1")
	w.rounds(t)
	require.Empty(t, w.board)
	require.Equal(t, []string{"b1"}, online(t, one, "alice", "bob").Devices)
	w.set(func() { w.alone = false })
	w.rounds(t)
	require.Equal(t, []string{"b1"}, online(t, two, "alice", "bob").Devices)
}

// A node may hear no other for a while, on a busy machine or while Redis is mute. Who went meanwhile is off the board once it
// hears them again, even who came back in between and went again.
func TestWhoWentWhileItsNodeWasAloneIsOffline(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one, two := w.node("one"), w.node("two")
	one.connect("alice/a1")
	_, err := one.service.Watch(t.Context(), "alice", "a1", []string{"bob", "carol", "dave"})
	require.NoError(t, err)
	leave := func(device string) {
		two.disconnect(device)
		w.clock.Advance(2 * presence.Grace)
		w.rounds(t)
	}
	two.connect("bob/b1")
	two.connect("carol/c1")
	w.rounds(t)
	require.NotEmpty(t, online(t, one, "alice", "bob").Devices)

	w.set(func() { w.alone = true })
	leave("bob/b1")
	leave("carol/c1")
	two.connect("carol/c1")
	leave("carol/c1")
	two.connect("dave/d1") // whom the board never knew
	leave("dave/d1")
	two.connect("bob/b2")
	w.rounds(t)

	w.set(func() { w.alone = false; w.down = true })
	w.rounds(t)
	two.connect("carol/c1") // while what is to be written fails
	w.rounds(t)
	leave("carol/c1")
	w.set(func() { w.down = false })
	w.rounds(t)
	require.Equal(t, []string{"b2"}, online(t, one, "alice", "bob").Devices)
	require.Empty(t, online(t, one, "alice", "carol").Devices)
	require.Empty(t, online(t, one, "alice", "dave").Devices)
	require.Empty(t, w.board["carol"])
	last := map[string]string{}
	for _, text := range one.took("alice/a1") {
		user, is, _ := strings.Cut(text, " ")
		last[user] = is
	}
	require.Equal(t, map[string]string{"bob": "online", "carol": "offline", "dave": "offline"}, last)
}

func TestRightsAreAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one := w.node("one")
	one.connect("alice/a1")
	one.connect("bob/b1")
	w.set(func() { w.deny["alice carol"] = true })
	now, err := one.service.Watch(t.Context(), "alice", "a1", []string{"bob", "carol"})
	require.NoError(t, err)
	require.Len(t, now, 1, "carol is left out")
	w.rounds(t)
	one.took("alice/a1")
	w.set(func() { w.deny["alice bob"] = true }) // bob blocks alice
	one.Doubt("bob")
	w.rounds(t)
	require.Equal(t, []string{"bob offline"}, one.took("alice/a1"), "and nothing more")
	one.disconnect("bob/b1")
	w.clock.Advance(2 * presence.Grace)
	one.connect("bob/b1")
	w.rounds(t)
	require.Empty(t, one.took("alice/a1"))
	require.False(t, one.want["bob"])
}
