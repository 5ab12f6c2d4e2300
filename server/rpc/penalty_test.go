package rpc

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Penalties grow while somebody goes on, end, and are forgotten.
func TestPenalties(t *testing.T) {
	p, now := newPenalties(), realNow()
	want := firstPenalty
	for range 8 {
		require.False(t, p.punished("a", now))
		p.punish("a", now)
		require.True(t, p.punished("a", now.Add(want)))
		p.punish("a", now.Add(want/2))
		now = now.Add(want + 1)
		require.False(t, p.punished("a", now))
		want = min(2*want, maxPenalty)
	}
	require.False(t, p.punished("b", now))
	now = now.Add(maxPenalty + penaltyMemory + 1)
	p.punish("a", now)
	require.False(t, p.punished("a", now.Add(firstPenalty+1)), "it begins anew")
	for i := range 2 * maxPenalties {
		p.punish(fmt.Sprint(i), now)
	}
	require.Equal(t, maxPenalties, p.list.Len())
	require.False(t, p.punished("a", now))
	require.True(t, p.punished(fmt.Sprint(2*maxPenalties-1), now))
}

// What was refused on connections that an address closed is for one that it opens next, once, and not for ever.
func TestRefusedIsInherited(t *testing.T) {
	p, now := newPenalties(), realNow()
	require.Zero(t, p.inherit("a", now))
	require.Zero(t, p.list.Len(), "who did nothing is not remembered")
	p.leave("a", 30, now)
	p.leave("a", 40, now.Add(penaltyMemory))
	require.False(t, p.punished("a", now))
	require.Zero(t, p.inherit("b", now))
	require.EqualValues(t, 70, p.inherit("a", now.Add(2*penaltyMemory)))
	require.Zero(t, p.inherit("a", now.Add(2*penaltyMemory)))
	p.leave("a", 30, now)
	p.leave("a", maxRefused-1, now)
	require.EqualValues(t, maxRefused-1, p.inherit("a", now), "one more is too many")
	p.leave("a", 30, now)
	p.leave("a", 20, now.Add(penaltyMemory+1))
	require.EqualValues(t, 20, p.inherit("a", now.Add(penaltyMemory+1)))
	p.leave("a", 30, now)
	require.Zero(t, p.inherit("a", now.Add(penaltyMemory+1)))
	p.leave("a", 30, now)
	p.punish("a", now)
	require.Zero(t, p.inherit("a", now), "it is punished for it")
}
