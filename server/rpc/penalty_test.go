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
