package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/parley-im/parley/server/session"
)

func TestNewID(t *testing.T) {
	at := time.UnixMilli(0x0123456789ab)
	a, b := session.NewID(at), session.NewID(at)
	require.NotEqual(t, a, b)
	require.EqualValues(t, 7, a.Version())
	require.Equal(t, uuid.RFC4122, a.Variant())
	require.True(t, strings.HasPrefix(a.String(), "01234567-89ab-7"), a)
	require.Less(t, a.String(), session.NewID(at.Add(time.Millisecond)).String())
}

func TestRequestedID(t *testing.T) {
	key := uuid.New()
	id := session.RequestedID("alice", key)
	require.Equal(t, id, session.RequestedID("alice", key))
	require.EqualValues(t, 5, id.Version())
	require.NotEqual(t, id, session.RequestedID("bob", key))
	require.NotEqual(t, id, session.RequestedID("alice", uuid.New()))
	require.NotEqual(t, id, session.RequestedID("alice", uuid.Nil))
}

func TestDirectID(t *testing.T) {
	id, low, high := session.DirectID("bob", "alice")
	require.Equal(t, "alice", low)
	require.Equal(t, "bob", high)
	same, _, _ := session.DirectID("alice", "bob")
	require.Equal(t, id, same)
	one, _, _ := session.DirectID("ab", "c")
	other, _, _ := session.DirectID("a", "bc")
	require.NotEqual(t, one, other)
}

func TestPeer(t *testing.T) {
	s := session.Session{Kind: session.KindDirect, DirectLow: "a", DirectHigh: "b"}
	require.Equal(t, "b", s.Peer("a"))
	require.Equal(t, "a", s.Peer("b"))
	require.Empty(t, session.Session{Kind: session.KindGroup}.Peer("a"))
}

// genVisibility draws disjoint ascending intervals, the last of them open or not.
func genVisibility(rt *rapid.T) (v session.Visibility) {
	at := int64(0)
	for range rapid.IntRange(0, 4).Draw(rt, "intervals") {
		from := at + rapid.Int64Range(1, 4).Draw(rt, "gap")
		at = from + rapid.Int64Range(0, 4).Draw(rt, "length")
		v = append(v, session.Interval{From: from, To: at})
	}
	if len(v) > 0 && rapid.Bool().Draw(rt, "open") {
		v[len(v)-1].To = session.Open
	}
	return v
}

// The questions that a visibility answers, against counting seqs.
func TestVisibility(t *testing.T) {
	const most = 50
	rapid.Check(t, func(rt *rapid.T) {
		v := genVisibility(rt)
		head := rapid.Int64Range(0, most).Draw(rt, "head")
		after := rapid.Int64Range(0, most).Draw(rt, "after")
		var seen, next []int64
		for seq := int64(1); seq <= head; seq++ {
			if v.Contains(seq) {
				seen = append(seen, seq)
				if seq > after && (len(next) == 0 || next[len(next)-1] == seq-1) && sameInterval(v, next, seq) {
					next = append(next, seq)
				}
			}
		}
		if len(seen) == 0 {
			require.Zero(rt, v.Last(head))
		} else {
			require.Equal(rt, seen[len(seen)-1], v.Last(head))
			require.Equal(rt, seen[0], v.First())
		}
		from, to, ok := v.Next(after, head)
		require.Equal(rt, len(next) > 0, ok)
		if ok {
			require.Equal(rt, next[0]-1, from)
			require.Equal(rt, next[len(next)-1], to)
		}
		window := session.Interval{From: after + 1, To: head}
		var inside []int64
		for _, i := range v.Intersect(window) {
			for seq := i.From; seq <= i.To; seq++ {
				inside = append(inside, seq)
			}
		}
		for seq := int64(1); seq <= head; seq++ {
			require.Equal(rt, v.Contains(seq) && seq > after, contains(inside, seq))
		}
	})
}

// sameInterval reports whether seq lies in the same interval as those before it.
func sameInterval(v session.Visibility, before []int64, seq int64) bool {
	if len(before) == 0 {
		return true
	}
	for _, i := range v {
		if i.Contains(seq) {
			return i.Contains(before[0])
		}
	}
	return false
}

func contains(seqs []int64, seq int64) bool {
	for _, s := range seqs {
		if s == seq {
			return true
		}
	}
	return false
}

func TestCutAt(t *testing.T) {
	open := session.Visibility{{From: 1, To: 3}, {From: 5, To: session.Open}}
	require.Equal(t, session.Visibility{{From: 1, To: 3}, {From: 5, To: 9}}, open.CutAt(9))
	require.Equal(t, session.Open, open[1].To, "the original changed")
	require.Equal(t, open, open.CutAt(4), "a membership that began later is not cut")
	require.Equal(t, open.CutAt(9), open.CutAt(9).CutAt(12))
}

func TestNothingVisible(t *testing.T) {
	var v session.Visibility
	require.False(t, v.Contains(1))
	require.Zero(t, v.First())
	require.Zero(t, v.Last(9))
	_, _, ok := v.Next(0, 9)
	require.False(t, ok)
	require.Zero(t, session.Membership{}.VisibleFrom())
}
