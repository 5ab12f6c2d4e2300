package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/e2e/rig"
)

// What abuse costs a server that has nothing else to do, per connection or bomb, however fast it comes: at most some processor
// time, no memory that stays, no goroutine that stays. Whoever abuses HTTP/2 or does not go on loses the connection; a bomb is
// refused as any other request that is too large, and its connection goes on.
func TestAbuseCostsLittle(t *testing.T) {
	s := rig.Start(t, "PARLEY_TRUSTED_PROXIES=127.0.0.1", "PARLEY_MAX_CONNS_IP=100")
	token, addr := s.Token("mallory", "m1"), strings.TrimPrefix(s.URL, "http://")
	require.Less(t, len(bomb()), 64<<10, "it is to be refused for what it becomes, not for what it is")
	for n, kind := range []struct {
		abuse
		times int
		most  time.Duration // processor time of each
		kept  bool          // the connection goes on
		units int           // the most over one connection; what the kernel's buffers hold is not seen by the server
	}{
		{gzipBombs, 2, 20 * time.Millisecond, true, 100},
		{resets, size(3, 5, 5), 100 * time.Millisecond, false, 400_000},
		{floods, size(1, 3, 3), 50 * time.Millisecond, false, 20_000},
		{slow, 1, 5 * time.Millisecond, false, 1},
	} {
		if testing.Short() && kind.name == slow.name {
			continue // they have 10 s
		}
		goroutines, memory, cpu := s.Metric("go_goroutines"), s.Metric("process_resident_memory_bytes"), s.Metric("process_cpu_seconds_total")
		var seen tally
		for host := range kind.times { // each time as somebody new: who did it once is not let in again at once
			seen.add(kind.once(t.Context(), address(3+n, host+1), addr, token))
		}
		spent := s.Metric("process_cpu_seconds_total") - cpu
		count := seen.Connections
		if kind.kept {
			count = seen.Units
			require.Equal(t, seen.Connections, seen.Kept, kind.name)
		} else {
			require.Zero(t, seen.Kept, "%s: connections that the server did not end", kind.name)
		}
		require.GreaterOrEqual(t, count, kind.times, kind.name)
		require.LessOrEqual(t, seen.Most, kind.units, "%s: over one connection", kind.name)
		each := time.Duration(spent / float64(count) * float64(time.Second))
		require.Eventually(t, func() bool { return s.Metric("go_goroutines") <= goroutines+20 }, patience, 50*time.Millisecond,
			"%s: goroutines stay", kind.name)
		grown := s.Metric("process_resident_memory_bytes") - memory
		line := fmt.Sprintf("%s: %d %s over %d connections, %s of processor time each, %.0f MiB more", kind.name, seen.Units, kind.unit,
			seen.Connections, each.Round(10*time.Microsecond), math.Max(0, grown)/(1<<20))
		t.Log(line)
		if raceDetector == "off" { // it multiplies time and memory
			require.LessOrEqual(t, each, kind.most, line)
			require.LessOrEqual(t, grown, 64.0*(1<<20), line)
		}
	}
}
