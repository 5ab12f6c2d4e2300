package app

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// BenchmarkReturning brings devices back to 100 sessions of 50 unread messages each, their own each: into a sink that
// keeps nothing, and over connections (whose reading ends are in the same process). cpu-ns/entry is this process's time
// and the figure to look at where other programs share the processors.
func BenchmarkReturning(b *testing.B) {
	for _, http := range []bool{false, true} {
		for _, tier := range []string{"ring", "redis", "postgres"} {
			for _, devices := range []int{1, 50} {
				b.Run(fmt.Sprintf("http=%t/tier=%s/devices=%d", http, tier, devices), func(b *testing.B) { comeBackAgain(b, http, tier, devices) })
			}
		}
	}
}

func comeBackAgain(b *testing.B, http bool, tier string, devices int) {
	s := returningSetup{users: devices, sessions: 100, unread: 50, ringBytes: 256 << 20, noRedis: tier == "postgres"}
	if tier != "ring" {
		s.ringBytes = 0
	}
	w := newReturning(b, s)
	if http {
		w.overHTTP(devices)
	}
	w.allBack(devices) // warm
	w.settled()
	b.ReportAllocs()
	b.ResetTimer()
	entries := 0
	before := cpuTime()
	for b.Loop() {
		entries += w.allBack(devices)
	}
	used := cpuTime() - before
	b.StopTimer()
	b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(used.Nanoseconds())/float64(entries), "cpu-ns/entry")
	b.ReportMetric(float64(w.pg.take()["MessageListRanges"])/float64(b.N), "body-statements/op")
	w.close()
}

// cpuTime is the time that this process has had of the processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
