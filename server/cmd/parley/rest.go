package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"syscall"
	"time"
)

// Bounds of giving memory back.
const (
	// restEvery is how often the process looks at itself.
	restEvery = time.Second
	// restQuiet is how many bytes it may have allocated between two looks to count as quiet, and restLooks how often it must
	// have been quiet in a row.
	restQuiet = 2 << 20
	restLooks = 2
	// restBusy is how much time of each processor that it may use it may have taken between two looks to count as quiet:
	// fan-out allocates nothing, and a collection amid it makes deliveries late.
	restBusy = 50 * time.Millisecond
	// restWorth is how many bytes must have been allocated since the last time, at least; more in a large process: a quarter
	// of what it uses, so that a collection costs it little.
	restWorth = 16 << 20
	// restPause is how many looks lie between two times, at least.
	restPause = 10
)

// giveBack gives memory back to the system when the process has become quiet, until stop. The garbage of ten thousand
// streams that were opened at once would otherwise stay until as much was allocated again, which on a node whose devices
// wait is hours; and the stacks that opening took only shrink by half with each collection.
func giveBack() (stop func()) {
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(restEvery)
		defer tick.Stop()
		var r resting
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				if r.due(readUsage()) {
					debug.FreeOSMemory()
					r.rested(readUsage())
				}
			}
		}
	})
	return func() {
		close(end)
		done.Wait()
	}
}

// usage is what a process uses of memory, in bytes.
type usage struct {
	allocated uint64 // since it started
	live      uint64 // found in use by the last collection
	stacks    uint64
	busy      time.Duration // processor time since it started
}

func readUsage() usage {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	u := usage{allocated: s[0].Value.Uint64(), live: s[1].Value.Uint64(), stacks: s[2].Value.Uint64()}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil { // it cannot fail with these arguments
		u.busy = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return u
}

// resting decides when it is time. The zero value has seen nothing.
type resting struct {
	allocated uint64 // at the look before
	busy      time.Duration
	given     uint64 // allocated when memory was given back last
	seen      bool
	quiet     int    // looks in a row
	pause     int    // looks until the next time
	stacks    uint64 // before the last time
	again     bool   // stacks were still shrinking
}

// due takes a look and reports whether memory is to be given back now.
func (r *resting) due(u usage) bool {
	calm := u.busy-r.busy <= restBusy*time.Duration(runtime.GOMAXPROCS(0))
	if r.seen && calm && u.allocated-r.allocated <= restQuiet {
		r.quiet++
	} else {
		r.quiet, r.again = 0, false
	}
	r.seen, r.allocated, r.busy = true, u.allocated, u.busy
	r.pause = max(0, r.pause-1)
	if r.quiet < restLooks || r.pause > 0 {
		return false
	}
	r.stacks = u.stacks
	return r.again || u.allocated-r.given >= max(restWorth, u.live/4)
}

// rested takes what is used after it was done. While stacks shrink it is soon done again.
func (r *resting) rested(u usage) {
	r.allocated, r.given, r.busy = u.allocated, u.allocated, u.busy
	r.again = u.stacks+restWorth/4 < r.stacks
	if r.pause = restPause; r.again {
		r.pause = 0
	}
}
