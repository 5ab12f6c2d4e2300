package main

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMemoryIsGivenBackOnlyInQuiet(t *testing.T) {
	var r resting
	busy := usage{allocated: 1 << 30, live: 100 << 20, stacks: 100 << 20}
	for range 5 {
		busy.allocated += restQuiet + 1
		require.False(t, r.due(busy), "too much is going on")
	}
	require.False(t, r.due(busy), "quiet for one look")
	require.True(t, r.due(busy), "and for another one")

	r.rested(usage{allocated: busy.allocated, stacks: 60 << 20})
	busy.stacks = 60 << 20
	require.True(t, r.due(usage{allocated: busy.allocated, stacks: 60 << 20}), "stacks shrink by half each time")
	r.rested(usage{allocated: busy.allocated, stacks: 59 << 20})
	for range 3 * restPause {
		require.False(t, r.due(busy), "nothing has come since")
	}
	looks := 1
	for busy.allocated += restQuiet; !r.due(busy); busy.allocated += restQuiet {
		looks++
	}
	require.Equal(t, (100<<20)/4/restQuiet+1, looks, "once a quarter of what is in use has come since")
}

func TestMemoryIsNotGivenBackWhileTheProcessorsAreInUse(t *testing.T) {
	var r resting
	u := usage{allocated: 1 << 30} // at once, and nothing more
	for range 3 * restPause {
		require.False(t, r.due(u), "what is sent costs time and allocates nothing")
		u.busy += restBusy*time.Duration(runtime.GOMAXPROCS(0)) + 1
	}
	require.False(t, r.due(u))
	require.False(t, r.due(u), "quiet for one look")
	require.True(t, r.due(u), "and for another one")
}

func TestMemoryIsGivenBackOnlyWhereItIsWorthIt(t *testing.T) {
	for _, c := range []struct {
		worth bool
		u     usage
	}{
		{false, usage{allocated: restWorth - 1}},
		{true, usage{allocated: restWorth}},
		{false, usage{allocated: 2 << 30, live: 9 << 30}},
		{true, usage{allocated: 3 << 30, live: 9 << 30}},
	} {
		var r resting
		require.False(t, r.due(c.u))
		require.False(t, r.due(c.u))
		require.Equal(t, c.worth, r.due(c.u), "%+v", c.u)
	}
}

func TestGivingBack(t *testing.T) {
	hold := func() {
		held := make([]byte, 64<<20)
		runtime.GC() // it is in use now, so that nobody but giveBack finds it soon
		runtime.KeepAlive(held)
	}
	hold()
	require.GreaterOrEqual(t, readUsage().live, uint64(64<<20))
	require.Positive(t, readUsage().busy)
	stop := giveBack()
	defer stop()
	require.Eventually(t, func() bool { u := readUsage(); return u.live < 32<<20 }, patience, 50*time.Millisecond)
}
