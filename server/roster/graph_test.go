package roster

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/parley-im/parley/server/feed"
)

// visit gives a model's rows to a builder, in whatever order.
func visit(t require.TestingT, b *builder, model map[feed.Relation]uint8) {
	for key, traits := range model {
		other := []byte(key.OtherID)
		if key.Kind == feed.UserToSession {
			id := uuid.MustParse(key.OtherID)
			other = id[:]
		}
		require.NoError(t, b.Row(key.Kind, []byte(key.UserID), other, traits))
	}
}

// rowsOf reads a graph back, through the lists of users.
func rowsOf(g *graph) map[feed.Relation]uint8 {
	out := make(map[feed.Relation]uint8)
	for n := range uint32(len(g.users.ends)) {
		user := string(g.users.at(n))
		if int(n) < len(g.known) && g.known[n] != 0 {
			out[feed.Relation{Kind: feed.User, UserID: user}] = g.known[n] >> 1
		}
		for _, e := range g.peers.of(n) {
			out[feed.Relation{Kind: feed.UserToUser, UserID: user, OtherID: string(g.users.at(e.number()))}] = e.traits()
		}
		for _, e := range g.owned.of(n) {
			out[feed.Relation{Kind: feed.UserToDevice, UserID: user, OtherID: string(g.devices.at(e.number()))}] = e.traits()
		}
		for _, e := range g.joined.of(n) {
			out[feed.Relation{Kind: feed.UserToSession, UserID: user, OtherID: g.sessions.ids[e.number()].String()}] = e.traits()
		}
	}
	return out
}

// membersOf reads the memberships back through the lists of sessions.
func membersOf(g *graph) map[feed.Relation]uint8 {
	out := make(map[feed.Relation]uint8)
	for n, id := range g.sessions.ids {
		for _, e := range g.members.of(uint32(n)) {
			out[feed.Relation{Kind: feed.UserToSession, UserID: string(g.users.at(e.number())), OtherID: id.String()}] = e.traits()
		}
	}
	return out
}

// drawRow draws a row from a small world, so that rows meet.
func drawRow(t *rapid.T) Row {
	r := Row{Relation: feed.Relation{Kind: rapid.SampledFrom([]feed.RelationKind{feed.User, feed.UserToUser, feed.UserToDevice,
		feed.UserToSession}).Draw(t, "kind"), UserID: fmt.Sprintf("u%d", rapid.IntRange(0, 12).Draw(t, "user"))}}
	n := rapid.IntRange(0, 40).Draw(t, "other")
	switch r.Kind {
	case feed.User:
		r.Traits = uint8(n & 1)
	case feed.UserToUser:
		r.OtherID, r.Traits = fmt.Sprintf("u%d", n), uint8(1+n%3)
	case feed.UserToDevice:
		r.OtherID, r.Traits = fmt.Sprintf("d%d", n), uint8(rapid.IntRange(0, 1).Draw(t, "revoked"))
	case feed.UserToSession:
		r.OtherID, r.Traits = uuid.UUID{0: byte(n)}.String(), uint8(rapid.IntRange(1, 15).Draw(t, "traits"))
	}
	return r
}

// The graph holds what plain maps hold, however it came about: loaded, changed, compacted, loaded again.
func TestGraphIsTheMapOfItsRows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		model := make(map[feed.Relation]uint8)
		g := &graph{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				r := drawRow(t)
				model[r.Relation] = r.Traits
				require.NoError(t, g.put(r))
			},
			"remove": func(t *rapid.T) {
				key := drawRow(t).Relation
				delete(model, key)
				g.remove(key)
			},
			"load": func(t *rapid.T) {
				b := newBuilder(MaxBytes)
				visit(t, b, model)
				var err error
				g, err = b.graph()
				require.NoError(t, err)
			},
			"compact": func(*rapid.T) {
				for _, l := range []*lists{&g.peers, &g.owned, &g.joined, &g.members} {
					l.garbage += minGarbage // as if there were so much of it; compacting sets it right
					l.arena = append(l.arena, make([]edge, minGarbage)...)
					l.compact()
				}
			},
			"": func(t *rapid.T) {
				require.Equal(t, model, rowsOf(g))
				memberships := maps.Clone(model)
				maps.DeleteFunc(memberships, func(k feed.Relation, _ uint8) bool { return k.Kind != feed.UserToSession })
				require.Equal(t, memberships, membersOf(g))
				var rows [5]int64
				for key := range model {
					rows[key.Kind]++
				}
				require.Equal(t, rows, g.rows)
				for _, l := range []*lists{&g.peers, &g.owned, &g.joined, &g.members} {
					room := 0
					for _, s := range l.spans {
						room += int(s.room)
					}
					require.Equal(t, len(l.arena), room+l.garbage, "the arena is lists and garbage")
				}
			},
		})
	})
}

// Lists that come and go do not make the arena grow without bound.
func TestGarbageIsCompacted(t *testing.T) {
	t.Parallel()
	var l lists
	for i := range uint32(20_000) {
		owner := i % 100
		for n := range uint32(8) {
			l.set(owner, newEdge(n, 1))
		}
		if i%3 > 0 {
			for n := range uint32(8) {
				l.remove(owner, n)
			}
		}
	}
	require.Less(t, len(l.arena), 4*minGarbage)
}

func TestTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	b := newBuilder(1 << 20)
	var err error
	for i := 0; err == nil && i < 1_000_000; i++ {
		err = b.Row(feed.User, fmt.Appendf(nil, "user-%d", i), nil, 0)
	}
	require.ErrorIs(t, err, ErrTooLarge)
	require.Less(t, b.g.bytes(), int64(4<<20), "it stops near the bound")
}

// synthetic makes a world of memberships, with users of ten sessions each, half of it in direct sessions and half in
// groups of 30, two devices per user and five friends.
func synthetic(t testing.TB, memberships int) *graph {
	b := newBuilder(MaxBytes)
	users := memberships / 10
	id := func(prefix string, n int) []byte { return fmt.Appendf(nil, "%s-%012d", prefix, n%users) }
	for u := range users {
		require.NoError(t, b.Row(feed.User, id("user", u), nil, 0))
	}
	for u := range users {
		for i := range 5 {
			require.NoError(t, b.Row(feed.UserToUser, id("user", u), id("user", u*7+i*13+1), 1))
		}
		for i := range 2 {
			require.NoError(t, b.Row(feed.UserToDevice, id("user", u), fmt.Appendf(nil, "device-%d-%d", u, i), 0))
		}
	}
	session, sessions, left := uuid.UUID{}, 0, 0
	for i := range memberships {
		if left == 0 {
			left = 2
			if sessions%16 == 0 { // one group to fifteen direct ones: half of the memberships
				left = 30
			}
			sessions++
			session = uuid.New()
		}
		left--
		require.NoError(t, b.Row(feed.UserToSession, id("user", i*7919), session[:], 1))
	}
	g, err := b.graph()
	require.NoError(t, err)
	return g
}

// Everything, users and devices and friends included, shared out over the memberships stays within 48 bytes where half of
// the memberships are in groups; of the memberships' own part (both directions and the sessions) no more than 24.
func TestBytesPerMembership(t *testing.T) {
	n := 100_000
	if s := os.Getenv("PARLEY_TEST_MEMBERSHIPS"); s != "" { // such as 10000000
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	g := synthetic(t, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	own := g.joined.bytes() + g.members.bytes() + g.sessions.bytes()
	per := func(bytes int64) float64 { return float64(bytes) / float64(g.rows[feed.UserToSession]) }
	t.Logf("%d memberships, %d sessions, %d users: %.1f bytes per membership, %.1f of them its own; heap %.1f, %d objects",
		g.rows[feed.UserToSession], len(g.sessions.ids), len(g.users.ends), per(g.bytes()), per(own),
		per(int64(after.HeapAlloc)-int64(before.HeapAlloc)), after.HeapObjects-before.HeapObjects)
	require.Less(t, per(g.bytes()), 48.0)
	require.Less(t, after.HeapObjects-min(before.HeapObjects, after.HeapObjects), uint64(10_000), "nothing for the garbage collector")
	runtime.KeepAlive(g)
}

func BenchmarkIsMember(b *testing.B) {
	g := synthetic(b, 100_000)
	r := New(nil, Config{}, realClock, discard, nil)
	r.graph, r.asOf = g, realClock.Now().Add(1<<40) // fresh for as long as it takes
	user, session := string(g.users.at(77)), g.sessions.ids[g.joined.of(77)[3].number()]
	b.ReportAllocs()
	for b.Loop() {
		if _, yes := r.IsMember(user, session); !yes {
			b.Fatal("not a member")
		}
	}
}
