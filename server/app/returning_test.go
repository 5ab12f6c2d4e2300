package app

import (
	"testing"
)

func TestReturningDevices(t *testing.T) {
	for _, shared := range []bool{true, false} {
		const devices = 50
		w := newReturning(t, returningSetup{users: devices, sessions: 100, unread: 50, shared: shared, ringBytes: 64 << 20})
		w.pg.take()
		w.redis.take()
		n := w.allBack(devices)
		q := w.pg.take()
		c, r := w.redis.take()
		t.Logf("shared=%v entries=%d pg=%d %v redis commands=%d round trips=%d", shared, n, sum(q), q, c, r)
	}
}
