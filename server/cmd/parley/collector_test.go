package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGrowthIsAsGosOwnOnceMuchIsInUse(t *testing.T) {
	require.Equal(t, 1600, growth(0))
	require.Equal(t, 320, growth(20<<20))
	require.Equal(t, 100, growth(64<<20))
	require.Equal(t, 100, growth(10<<30))
}

func TestPaceFollowsWhatIsInUse(t *testing.T) {
	t.Setenv("GOGC", "")
	percent := func() int {
		now := debug.SetGCPercent(100)
		debug.SetGCPercent(now)
		return now
	}
	before := percent()
	stop := pace()
	small := percent()
	require.Greater(t, small, 100)
	collected := func(ok func(percent int) bool) {
		require.Eventually(t, func() bool { runtime.GC(); return ok(percent()) }, patience, time.Millisecond)
	}
	held := make([]byte, 2*headroom)
	collected(func(percent int) bool { return percent == 100 })
	runtime.KeepAlive(held)
	collected(func(percent int) bool { return percent > 100 })
	stop()
	require.Equal(t, before, percent())
}

func TestPaceLeavesGOGCAlone(t *testing.T) {
	t.Setenv("GOGC", "150")
	before := debug.SetGCPercent(150)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	stop := pace()
	runtime.GC()
	stop()
	require.Equal(t, 150, debug.SetGCPercent(150))
}
