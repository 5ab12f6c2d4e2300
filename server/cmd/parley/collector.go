package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// headroom is how much the heap may at least grow between two garbage collections. By Go's own rule a server with little
// in use collects after little: one with 20 MB did so ten times a second under load.
const headroom = 64 << 20

// pace makes collections as rare as headroom allows, and follows what is in use from then on until stop. GOGC, where it is
// set, rules alone; GOMEMLIMIT holds in any case.
func pace() (stop func()) {
	c := &cycle{}
	if os.Getenv("GOGC") == "" {
		c.before = debug.SetGCPercent(-1)
		c.follow()
	}
	return c.stop
}

// cycle is told of each collection.
type cycle struct {
	mu      sync.Mutex
	before  int
	percent int
	stopped bool
}

func (c *cycle) follow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if percent := growth(live[0].Value.Uint64()); percent != c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	runtime.SetFinalizer(&turn{c}, func(t *turn) { t.of.follow() })
}

func (c *cycle) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.percent != 0 {
		debug.SetGCPercent(c.before)
	}
	c.stopped = true
}

// turn is dropped as soon as it is made: the next collection finds it.
type turn struct{ of *cycle }

// growth is how much the heap may grow, in per cent of what is in use: Go's 100, or more while that is little.
func growth(live uint64) int {
	const least = 4 << 20                               // as Go's own
	return max(100, int(headroom*100/max(live, least))) //nolint:gosec // at most that of least
}
