package simulate_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/cmd/parley/simulate"
)

// The table in docs/scaling.md is the one that the program prints.
func TestDocumentedTable(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/scaling.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "<!-- parley simulate -->\n")
	require.True(t, found)
	table, _, found := strings.Cut(rest, "<!-- end -->")
	require.True(t, found)
	u := simulate.TypicalUse()
	require.Equal(t, simulate.Table(simulate.Of(1e6, u), simulate.Of(1e7, u), simulate.Of(1e8, u)), table,
		"put the output of `parley simulate` between the marks")
}

// The sum for a million devices, done by hand.
func TestSumByHand(t *testing.T) {
	s := simulate.Of(1e6, simulate.TypicalUse())
	require.InDelta(t, 500_000, s.Users, 0)
	require.InDelta(t, 200_000, s.Streams, 0)
	require.InDelta(t, 10_000_000, s.Memberships, 0)
	require.InDelta(t, 2_000_000, s.Sessions, 0)
	require.InDelta(t, 578.7, s.Messages, 0.1)     // 500,000 x 20 / 86,400 x 5
	require.InDelta(t, 1_041.7, s.Deliveries, 0.1) // of 10 devices all but one, a fifth online
	require.InDelta(t, 4, s.Nodes, 0)              // 200,000 / 50,000
	require.InDelta(t, 330e6, s.RelationMap, 0)
	require.InDelta(t, 50_000*60_000+330e6+164*(1<<20), s.NodeBytes, 1)
	require.InDelta(t, 1, s.Primaries, 0)
	require.InDelta(t, 500_000*20*365*468.0, s.DiskPerYear, 1e6)
	require.InDelta(t, 2_200_000*251+2_000_000*160, s.ChannelBytes, 1) // 4.2 M subscriptions of 2.2 M channels
	require.InDelta(t, 10e6*457.0, s.CachedBytes, 1)
	require.InDelta(t, 200_000*239.0, s.PresenceBytes, 1)
	require.InDelta(t, 20_000, s.PresenceCommands, 0.1) // 200,000 x 3 / 30
	require.InDelta(t, 20_000+2*578.7, s.RedisCommands, 0.1)
}

// Ten times the devices ask for ten times what is not rounded up or capped, and for no less of anything.
func TestSumGrows(t *testing.T) {
	u := simulate.TypicalUse()
	for d := 1e4; d < 1e9; d *= 10 {
		a, b := simulate.Of(d, u), simulate.Of(10*d, u)
		require.InEpsilon(t, 10*a.DiskPerYear, b.DiskPerYear, 1e-9)
		require.InEpsilon(t, 10*a.ChannelBytes, b.ChannelBytes, 1e-9)
		for _, pair := range [][2]float64{{a.Nodes, b.Nodes}, {a.Primaries, b.Primaries}, {a.RedisServers, b.RedisServers}, {a.Polls, b.Polls},
			{a.RedisCommands, b.RedisCommands}} {
			require.GreaterOrEqual(t, pair[1], pair[0])
		}
	}
}
