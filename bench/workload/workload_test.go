package workload_test

import (
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/bench/proc"
	"github.com/parley-im/parley/bench/report"
	"github.com/parley-im/parley/bench/stack"
	"github.com/parley-im/parley/bench/workload"
	"github.com/parley-im/parley/server/dev/testenv"
)

// parley builds the program: it is the server and the bare servers.
func parley(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parley")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/parley-im/parley/server/cmd/parley").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// measured runs workloads at a tiny scale, again and for ten times as long where nothing was done in the time of a case, as on a
// machine that is busy with anything, at most three times.
func measured(t *testing.T, cfg workload.Config, s *stack.Stack, names ...string) *report.Report {
	t.Helper()
	cfg.Warmup, cfg.Scale, cfg.Progress = 50*time.Millisecond, workload.TinyScale(), t.Output()
	for try := 1; ; try++ {
		rep := &report.Report{}
		b := workload.New(cfg, s, rep)
		for _, name := range names {
			require.NoError(t, b.Run(t.Context(), name))
		}
		nothing := slices.ContainsFunc(rep.Runs, func(r report.Result) bool {
			return slices.ContainsFunc(r.Problems, func(p string) bool { return strings.HasPrefix(p, "nothing was measured") })
		})
		unseen := cfg.Curves && !slices.ContainsFunc(rep.Runs, func(r report.Result) bool { return len(r.Waits) > 0 })
		if try == 3 || !nothing && !unseen {
			return rep
		}
		t.Logf("nothing was done within %s", cfg.Duration)
		cfg.Duration *= 10
	}
}

// Every workload runs at a tiny scale, on a real server: so the bench does not rot. Nothing is judged by its speed.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a server for half a minute")
	}
	redis, _ := testenv.Redis(t)
	s, err := stack.Start(t.Context(), stack.Config{Program: parley(t), Dir: t.TempDir(), PostgresURL: testenv.PostgresURL(t), RedisURL: redis})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })

	for name, cases := range map[string][]string{
		"W1": {"4 senders x 1 in flight", "4 senders x 4 in flight"},
		"W2": {"20 devices, saturated", "20 devices, 50 messages/s"},
		"W3": {"1 back at once, Redis warm", "3 back at once, Redis warm", "1 back at once, Redis off", "3 back at once, Redis off"},
		"W4": {"20 idle, HTTP/1.1", "20 idle, HTTP/2"},
		"W5": {"3 groups of 4"},
		"W6": {
			"W1 x 1 in flight, 0.02 M messages, 0.002 M memberships", "W1 x 4 in flight, 0.02 M messages, 0.002 M memberships",
			"W3 3 back at once, Redis off, 0.02 M messages, 0.002 M memberships", "W1 x 1 in flight, nothing loaded",
			"W1 x 4 in flight, nothing loaded", "W3 3 back at once, Redis off, nothing loaded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			rep := measured(t, workload.Config{Runs: 1, Duration: 200 * time.Millisecond, Curves: name == "W1"}, s, name)
			rep.Summarize()
			require.Empty(t, rep.Failures())
			found := make(map[string]report.Result)
			for _, r := range rep.Summary {
				found[r.Case] = r
			}
			for _, c := range cases {
				r, ok := found[c]
				require.True(t, ok, "no case %q among %v", c, found)
				require.NotZero(t, r.Operations, c)
				if name == "W4" {
					continue // twenty devices are lost in the noise of a server's memory
				}
				require.Positive(t, r.Rate, c)
				require.Positive(t, r.Limit, c)
				require.Positive(t, r.Ratio, c)
				require.Positive(t, r.Latency.Count, c)
			}
			switch name {
			case "W1":
				require.Len(t, rep.Curves, 2)
				require.Len(t, rep.Contention, 2)
				share := 0.0
				for _, s := range found["4 senders x 4 in flight"].Waits {
					share += s
				}
				require.InDelta(t, 1, share, 1e-9, "all that was seen of PostgreSQL's backends")
			case "W2":
				require.Contains(t, rep.Contention[0].Text, "waiting for locks")
			}
		})
	}
}

// Only the cases that are asked for run, with what they need.
func TestCases(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a server for some seconds")
	}
	redis, _ := testenv.Redis(t)
	s, err := stack.Start(t.Context(), stack.Config{Program: parley(t), Dir: t.TempDir(), PostgresURL: testenv.PostgresURL(t), RedisURL: redis})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	rep := measured(t, workload.Config{Runs: 1, Duration: 200 * time.Millisecond,
		Cases: regexp.MustCompile(`x 4 in flight|messages/s|W3 1 back at once, Redis off|HTTP/2`)}, s, "W1", "W2", "W3", "W4", "W5")
	require.Empty(t, rep.Failures())
	var cases []string
	for _, r := range rep.Runs {
		cases = append(cases, r.Workload+" "+r.Case)
	}
	require.Equal(t, []string{"W1 4 senders x 4 in flight", "W2 20 devices, 50 messages/s", "W3 1 back at once, Redis off", "W4 20 idle, HTTP/2"}, cases)
}

// A server that runs already is measured as it is, and left as it was.
func TestServerThatRunsAlready(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a server for some seconds")
	}
	database := testenv.PostgresURL(t)
	redis, _ := testenv.Redis(t)
	own, err := stack.Start(t.Context(), stack.Config{Program: parley(t), Dir: t.TempDir(), PostgresURL: database, RedisURL: redis})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, own.Stop()) })
	s, err := stack.Start(t.Context(), stack.Config{Program: own.Program(), Addr: own.Addr(), AdminKey: own.AdminKey(), PostgresURL: database})
	require.NoError(t, err)
	require.Equal(t, own.PIDs.Server, s.PIDs.Server)
	require.Equal(t, own.PIDs.Postgres, s.PIDs.Postgres)
	require.NotZero(t, s.PIDs.Server)
	require.NotZero(t, s.PIDs.Postgres)
	require.Error(t, s.Serve(t.Context(), nil), "it is not the bench's to restart")
	require.Error(t, s.FlushRedis(t.Context()), "nor to empty")

	rep := measured(t, workload.Config{Runs: 1, Duration: 100 * time.Millisecond}, s, "W3", "W4", "W6")
	require.Empty(t, rep.Failures())
	var cases []string
	for _, r := range rep.Runs {
		cases = append(cases, r.Case)
	}
	require.Equal(t, []string{"1 back at once, as it is", "3 back at once, as it is", "20 idle, HTTP/1.1", "20 idle, HTTP/2"}, cases)
	require.NoError(t, s.Stop())
	require.Equal(t, own.PIDs.Server, proc.Listener(portOf(t, own.Addr())), "the server still runs")
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	return port
}

func TestUnknownWorkload(t *testing.T) {
	t.Parallel()
	b := workload.New(workload.Config{}, nil, &report.Report{})
	require.ErrorContains(t, b.Run(t.Context(), "W9"), "no workload W9")
}
