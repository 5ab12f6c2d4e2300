package app

import (
	"fmt"
	"testing"
)

// BenchmarkReturning brings devices back to 100 sessions of 50 unread messages each, into a sink that keeps nothing.
func BenchmarkReturning(b *testing.B) {
	for _, tier := range []string{"ring", "redis", "postgres"} {
		for _, devices := range []int{1, 50} {
			b.Run(fmt.Sprintf("tier=%s/devices=%d", tier, devices), func(b *testing.B) {
				s := returningSetup{users: devices, sessions: 100, unread: 50, ringBytes: 256 << 20, noRedis: tier == "postgres"}
				if tier != "ring" {
					s.ringBytes = 0
				}
				w := newReturning(b, s)
				w.allBack(devices) // warm
				b.ReportAllocs()
				entries := 0
				for b.Loop() {
					entries += w.allBack(devices)
				}
				b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
				w.close()
			})
		}
	}
}
