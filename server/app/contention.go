package app

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	defaultContention = 5 * time.Second
	maxContention     = time.Minute
	// blockRate is from how many nanoseconds on each wait is counted; shorter ones are sampled.
	blockRate = 10_000
	// contended is how many places each table has.
	contended = 10
)

// contention answers with a summary of what goroutines wait for during the time that `for` names (5s where it does not, at
// most 1m): the ten places with most of it, for locks and for channels. Go's profiles of both are on for that time only:
// they cost something. One is made at a time.
type contention struct {
	mu    sync.Mutex
	clock interface {
		After(d time.Duration) <-chan time.Time
	}
}

func (c *contention) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d := defaultContention
	if text := r.URL.Query().Get("for"); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil || d <= 0 || d > maxContention {
			http.Error(w, "for must be a duration of at most "+maxContention.String(), http.StatusBadRequest)
			return
		}
	}
	if !c.mu.TryLock() {
		http.Error(w, "another one is being made", http.StatusConflict)
		return
	}
	defer c.mu.Unlock()
	locksBefore, blocksBefore := waited(runtime.MutexProfile), waited(runtime.BlockProfile)
	before := runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(blockRate)
	select {
	case <-c.clock.After(d):
	case <-r.Context().Done():
	}
	runtime.SetMutexProfileFraction(before)
	runtime.SetBlockProfileRate(0)
	rate := cyclesPerSecond()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	summary(w, "waiting for locks, by who held them", since(locksBefore, waited(runtime.MutexProfile)), rate, d)
	summary(w, "waiting for locks and channels, by who waited (selects and receives, which wait for work, left out)",
		since(blocksBefore, waited(runtime.BlockProfile)), rate, d)
}

// wait is what was waited at a place: how often and how many cycles of the processor's clock.
type wait struct{ count, cycles int64 }

// waited sums a profile up by place.
func waited(profile func([]runtime.BlockProfileRecord) (int, bool)) map[string]wait {
	var records []runtime.BlockProfileRecord
	n, ok := profile(nil)
	for !ok {
		records = make([]runtime.BlockProfileRecord, n+64) // some may come in between
		n, ok = profile(records)
	}
	records = records[:n]
	out := make(map[string]wait)
	for _, rec := range records {
		name := waitedAt(rec.Stack())
		if name == "" {
			continue
		}
		w := out[name]
		w.count += rec.Count
		w.cycles += rec.Cycles
		out[name] = w
	}
	return out
}

// waitedAt names where a stack waited: the first function that is not the runtime's or a lock's own, and what called it.
// Empty is waiting for work.
func waitedAt(stack []uintptr) string {
	var names []string
	frames := runtime.CallersFrames(stack)
	for more := true; more && len(names) < 2; {
		var f runtime.Frame
		f, more = frames.Next()
		switch name := f.Function; {
		case strings.HasPrefix(name, "runtime.selectgo"), strings.HasPrefix(name, "runtime.chanrecv"), strings.HasPrefix(name, "sync.(*Cond).Wait"):
			return ""
		case strings.HasPrefix(name, "runtime."), strings.HasPrefix(name, "sync."), strings.HasPrefix(name, "internal/"), name == "":
		default:
			names = append(names, strings.TrimPrefix(name, "github.com/parley-im/parley/server/"))
		}
	}
	if len(names) == 0 {
		return "the runtime itself"
	}
	return strings.Join(names, " < ")
}

func since(before, after map[string]wait) map[string]wait {
	out := make(map[string]wait)
	for name, a := range after {
		if d := (wait{a.count - before[name].count, a.cycles - before[name].cycles}); d.cycles > 0 {
			out[name] = d
		}
	}
	return out
}

// summary writes the places where most was waited.
func summary(w io.Writer, title string, waits map[string]wait, rate float64, d time.Duration) {
	var all wait
	names := make([]string, 0, len(waits))
	for name, one := range waits {
		names = append(names, name)
		all.count += one.count
		all.cycles += one.cycles
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(waits[b].cycles, waits[a].cycles), strings.Compare(a, b))
	})
	fmt.Fprintf(w, "%s: %.3f s in %s, %d times\n", title, float64(all.cycles)/rate, d, all.count)
	for _, name := range names[:min(len(names), contended)] {
		one := waits[name]
		fmt.Fprintf(w, "%6.1f %%  %8.3f s  %8d times  %s\n", 100*float64(one.cycles)/float64(all.cycles), float64(one.cycles)/rate, one.count, name)
	}
}

// cyclesPerSecond is the unit of the profiles. Only their text tells it.
func cyclesPerSecond() float64 {
	var text bytes.Buffer
	if err := pprof.Lookup("mutex").WriteTo(&text, 1); err == nil {
		for lines := bufio.NewScanner(&text); lines.Scan(); {
			if v, ok := strings.CutPrefix(lines.Text(), "cycles/second="); ok {
				if rate, err := strconv.ParseFloat(v, 64); err == nil && rate > 0 {
					return rate
				}
			}
		}
	}
	return float64(time.Second) // what a cycle is where the clock's own cannot be read
}
