package chat

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func drain(t *thread) (seqs []int64) {
	for {
		p, ok := t.next()
		if !ok {
			return seqs
		}
		for seq := p.from; seq <= p.to; seq++ {
			seqs = append(seqs, seq)
		}
	}
}

func TestThread(t *testing.T) {
	var th thread
	now := time.Unix(100, 0)
	add := func(seqs ...int64) {
		for _, s := range seqs {
			th.add(&parleyv1.Message{Seq: s})
		}
	}
	add(1, 3)
	require.Empty(t, drain(&th), "it is not known yet where it begins")
	th.open(0)
	require.Equal(t, []int64{1}, drain(&th))
	th.wait(now)
	require.False(t, th.hole(now.Add(time.Second), 2*time.Second))
	require.True(t, th.hole(now.Add(3*time.Second), 2*time.Second))
	add(2, 3, 1)
	require.Equal(t, []int64{2, 3}, drain(&th))
	require.False(t, th.hole(now.Add(time.Hour), 0))
	add(7, 6, 9)
	th.skip(6)
	require.Equal(t, []int64{7}, drain(&th))
	th.skip(2)
	require.EqualValues(t, 7, th.shown, "it never goes back")
}

// However entries and ranges arrive, repeated, overlapping and out of order, each seq has its turn once and in order.
func TestThreadShowsEachOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "n")
		var order []int64
		for i := range n {
			order = append(order, int64(i+1))
		}
		order = append(order, rapid.SliceOf(rapid.Int64Range(1, int64(n))).Draw(t, "repeats")...)
		order = rapid.Permutation(order).Draw(t, "order")
		th := thread{opened: true}
		var shown []int64
		for _, seq := range order {
			if seq%7 == 3 {
				th.leaveOut(seq, min(seq+1, int64(n)))
			} else {
				th.add(&parleyv1.Message{Seq: seq})
			}
			shown = append(shown, drain(&th)...)
		}
		require.Len(t, shown, n)
		require.IsIncreasing(t, append([]int64{0}, shown...))
		require.Empty(t, th.held)
	})
}

func TestThreadDropsWhatIsRecalled(t *testing.T) {
	th := thread{opened: true}
	th.add(text(2, "bob", "a slip"))
	th.add(&parleyv1.Message{Seq: 3, Content: &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: 2}}}})
	th.add(text(1, "bob", "hi"))
	_, _ = th.next()
	p, ok := th.next()
	require.True(t, ok)
	require.True(t, p.entry.GetIsDeleted())
	require.Nil(t, p.entry.GetContent())
}
