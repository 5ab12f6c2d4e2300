package e2e

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// reportVariable names the environment variable with the file that the figures of the fault tests are written to, as a
// table; empty for none.
const reportVariable = "PARLEY_SOAK_REPORT"

// soaking is whether the long forms of the tests run.
func soaking() bool { return os.Getenv("PARLEY_SOAK") != "" }

// size returns what fits how long the tests may take: go test -short, make test, or make soak.
func size[T any](least, short, long T) T {
	switch {
	case soaking():
		return long
	case testing.Short():
		return least
	default:
		return short
	}
}

// patience bounds each wait for what must happen: far longer than it takes, since a test does not judge by the clock.
const patience = 3 * time.Minute

// prompt is how long something may take for which a time is promised and that began at a time: as long as that in the long
// forms. In the others, which run on machines that may be busy with anything, it is 10 s, which is less than any timeout after
// which it would happen in the end, and beside that as long as the machine kept everything from going on.
func prompt(promised time.Duration, l *lag, began time.Time) time.Duration {
	if soaking() {
		return promised
	}
	return 10*time.Second + 3*l.since(began)
}

// soakScale is by what the lengths of the long forms are multiplied: PARLEY_SOAK_SCALE, 1 where that is not set.
var soakScale = sync.OnceValue(func() float64 {
	text := os.Getenv("PARLEY_SOAK_SCALE")
	if text == "" {
		return 1
	}
	scale, err := strconv.ParseFloat(text, 64)
	if err != nil || scale <= 0 || scale > 100 {
		panic("PARLEY_SOAK_SCALE is a factor such as 0.3, at most 100, and not " + text)
	}
	return scale
})

// scaled is how long a long form does something.
func scaled(long time.Duration) time.Duration { return time.Duration(float64(long) * soakScale()) }

// scaledTimes is how often a long form does something.
func scaledTimes(long int) int { return max(1, int(float64(long)*soakScale())) }

// finding is a row of the report.
type finding struct {
	no, what, held, figures string
	passed                  bool
}

// order sorts A2 before A10.
func (f finding) order() string { return fmt.Sprintf("%.1s%4s", f.no, f.no[1:]) }

var findings struct {
	mu   sync.Mutex
	rows []finding
}

// report adds a row when the test has ended: what was provoked, what had to hold, and what was seen, which figures tells
// then.
func report(t *testing.T, no, what, held string, figures func() string) {
	began := time.Now()
	t.Cleanup(func() {
		if t.Skipped() {
			return
		}
		seen := fmt.Sprintf("%s; %s", figures(), time.Since(began).Round(time.Second))
		t.Logf("%s: %s", no, seen)
		findings.mu.Lock()
		defer findings.mu.Unlock()
		findings.rows = append(findings.rows, finding{no, what, held, seen, !t.Failed()})
	})
}

func writeReport() {
	path := os.Getenv(reportVariable)
	if path == "" || len(findings.rows) == 0 {
		return
	}
	slices.SortStableFunc(findings.rows, func(a, b finding) int { return strings.Compare(a.order(), b.order()) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s forms, %s, on %s, %s/%s, race detector %s.\n\n", size("Least", "Short", fmt.Sprintf("Long (times %g)", soakScale())),
		time.Now().UTC().Format(time.DateOnly), machine(), runtime.GOOS, runtime.GOARCH, raceDetector)
	b.WriteString("| # | provoked | must hold | held | seen; how long the test took |\n|---|---|---|---|---|\n")
	for _, f := range findings.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", f.no, f.what, f.held, map[bool]string{true: "yes", false: "**no**"}[f.passed], f.figures)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "the report could not be written:", err)
	}
}

// machine tells what the tests ran on, and how busy it was at their end, as far as the system says.
func machine() string {
	text := fmt.Sprintf("%d processors", runtime.NumCPU())
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				text += " (" + strings.TrimSpace(model) + ")"
				break
			}
		}
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(load)); len(f) >= 3 {
			text += ", load average " + strings.Join(f[:3], ", ")
		}
	}
	return text
}

// spread tells a few quantiles of durations.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(float64(len(all)-1)*q)].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %s, p99 %s, most %s (of %d)", at(0.5), at(0.99), at(1), len(all))
}

// quantile is the q-quantile of durations, 0 of none.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(float64(len(all)-1)*q)]
}
