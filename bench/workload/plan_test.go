package workload_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/bench/workload"
)

func TestPlanNamesEachCaseOnce(t *testing.T) {
	t.Parallel()
	cfg := workload.Config{Runs: 5, Warmup: 2 * time.Second, Duration: 5 * time.Second, Curves: true, Scale: workload.FullScale()}
	steps, err := workload.Plan(cfg, workload.Names, true)
	require.NoError(t, err)
	seen := make(map[string]bool)
	for _, s := range steps {
		name := s.Workload + " " + s.Case
		require.False(t, seen[name], name)
		seen[name] = true
		require.GreaterOrEqual(t, s.Takes, 5*7*time.Second, name)
		require.Equal(t, 5, s.Runs)
	}
	for _, name := range []string{"W1 64 senders x 16 in flight", "W2 1000 devices, saturated", "W2 9996 devices, 2 messages/s",
		"W3 50 back at once, Redis cold", "W4 10000 idle, HTTP/2", "W5 1000 groups of 10", "W6 W3 50 back at once, Redis off"} {
		require.True(t, seen[name], name)
	}

	cfg.Cases = regexp.MustCompile(`W2 1000 .* saturated|W4 .* HTTP/2`)
	some, err := workload.Plan(cfg, workload.Names, true)
	require.NoError(t, err)
	require.Len(t, some, 2)
	require.Less(t, workload.Sum(some), workload.Sum(steps)/2)
}

func TestPlanLeavesOutWhatNeedsAServerOfItsOwn(t *testing.T) {
	t.Parallel()
	cfg := workload.Config{Runs: 1, Duration: time.Second, Scale: workload.TinyScale()}
	steps, err := workload.Plan(cfg, []string{"W3", "W6"}, false)
	require.NoError(t, err)
	require.Equal(t, []string{"1 back at once, as it is", "3 back at once, as it is"}, []string{steps[0].Case, steps[1].Case})
	require.Len(t, steps, 2)
}

func TestPlanRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := workload.Plan(workload.Config{Scale: workload.TinyScale()}, []string{"W9"}, true)
	require.ErrorContains(t, err, "no workload W9")
	_, err = workload.Plan(workload.Config{Scale: workload.TinyScale(), Cases: regexp.MustCompile("W2 7 devices")}, workload.Names, true)
	require.ErrorContains(t, err, "no case")
}
