package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/e2e/rig"
)

// newFleetScene is newScene over several nodes: each device begins on another one and goes on at the next whenever its
// own is gone.
func newFleetScene(t *testing.T, nodes []*rig.Server) scene {
	t.Helper()
	addrs := rig.Addrs(nodes...)
	var sc scene
	device := func(user, device string, first int) *rig.Device {
		d := nodes[0].NewDevice(user, device)
		d.Over(append(slices.Clone(addrs[first%len(addrs):]), addrs[:first%len(addrs)]...)...)
		return d
	}
	names := []string{"u0", "u1", "u2", "u3"}
	for n, u := range names {
		sc.senders = append(sc.senders, device(u, "d0", n))
		sc.watchers = append(sc.watchers, device(u, "d1", n+1))
	}
	sc.all = append(append([]*rig.Device{}, sc.senders...), sc.watchers...)
	for range 3 {
		sc.ids = append(sc.ids, sc.senders[0].Group(t.Context(), names[1:]...))
	}
	for _, d := range sc.all {
		d.Connect()
		d.WaitCaughtUp(1)
	}
	return sc
}

// waitPeers waits until all nodes hear of all others.
func waitPeers(t *testing.T, nodes []*rig.Server) {
	t.Helper()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(nodes, func(s *rig.Server) bool {
			return s.Metric("parley_hints_up") != 1 || s.Metric("parley_hints_peers") != float64(len(nodes)-1)
		})
	}, patience, 20*time.Millisecond, "the nodes do not hear each other")
}

func resumes(devices []*rig.Device) (all []time.Duration) {
	for _, d := range devices {
		all = append(all, d.Resumes()...)
	}
	return all
}

// A2: one of three nodes is killed every few seconds under load, its devices go on at the others. Nothing acknowledged is
// lost, and every device is shown everything, once and in order.
func TestNodesKilledUnderLoad(t *testing.T) {
	every, kills := size(time.Second, 2*time.Second, 10*time.Second), size(2, 4, scaledTimes(18))
	var sent, lost int
	var took []time.Duration
	report(t, "A2", fmt.Sprintf("one of three nodes killed -9 every %s, %d times, under load", every, kills),
		"0 acked lost, 0 shown twice, 0 out of order, 0 skipped; resume p99 <= 3 s",
		func() string { return fmt.Sprintf("%d acked, %d streams lost, resumed %s", sent, lost, spread(took)) })
	nodes := startNodes(t, 3)
	waitPeers(t, nodes)
	sc := newFleetScene(t, nodes)
	l := startPaced(t, sc.senders, sc.ids, 4*time.Millisecond, nil)
	for n := range kills {
		before := l.count()
		time.Sleep(every)
		require.Eventually(t, func() bool { return l.count() > before }, patience, 10*time.Millisecond, "nothing was sent")
		nodes[n%len(nodes)].Kill()
		time.Sleep(min(every/3, 2*time.Second)) // the others carry on
		nodes[n%len(nodes)].Restart()
	}
	time.Sleep(every)
	l.stop()
	l.check(t, sc.senders[0].Client, sc.all, sc.ids)
	// Canceled is what connect-go calls a connection that was reset.
	for code := range l.codes {
		require.Contains(t, []connect.Code{connect.CodeUnavailable, connect.CodeCanceled}, code, "codes %v", l.codes)
	}
	sent, took = l.count(), resumes(sc.all)
	lost = len(took)
	require.GreaterOrEqual(t, lost, kills, "hardly a stream was lost: the test proves nothing")
	require.LessOrEqual(t, quantile(took, 0.99), size(patience, patience, 3*time.Second))
}

// A7: devices are cut all the time, at random points, in the middle of frames too, and go on over several nodes, while
// messages flow. No gap, nothing twice, no partial resume.
func TestRecoveryStorm(t *testing.T) {
	devices, during, rate := size(20, 200, 2000), size(2*time.Second, 12*time.Second, scaled(60*time.Second)), size(50, 150, 300)
	const group = 10
	var raw, repeats, sent, cuts int
	var rateSeen float64
	var took []time.Duration
	report(t, "A7", fmt.Sprintf("%d devices on three nodes cut at random every 2 s, in mid-frame too, for %s, at %d msg/s", devices, during, rate),
		"0 gaps, 0 shown twice, raw repeats <= 1 %, never a partial resume", func() string {
			return fmt.Sprintf("%d sent, %.0f a second, %d entries received, %d repeats, %d cuts, resumed %s", sent, rateSeen, raw, repeats, cuts, spread(took))
		})
	nodes := startNodes(t, 3)
	waitPeers(t, nodes)
	addrs := rig.Addrs(nodes...)
	var senders, all []*rig.Device
	var ids []string
	members := map[string][]*rig.Device{}
	for g := range devices / group {
		sender := nodes[g%3].NewDevice(fmt.Sprintf("s%03d", g), "d")
		var names []string
		var own []*rig.Device
		for n := range group {
			name := fmt.Sprintf("u%03d-%d", g, n)
			names = append(names, name)
			d := nodes[n%3].NewDevice(name, "d")
			d.Torn(20_000, 2*time.Second)
			d.Over(append(slices.Clone(addrs[n%3:]), addrs[:n%3]...)...)
			own = append(own, d)
		}
		id := sender.Group(t.Context(), names...)
		senders, ids, all = append(senders, sender), append(ids, id), append(all, own...)
		members[id] = own
	}
	for _, d := range all {
		d.Connect()
	}
	began := time.Now()
	l := startOpen(t, senders, ids, rate)
	time.Sleep(during)
	cut := func() (n int) {
		for _, d := range all {
			n += d.Cuts()
		}
		return n
	}
	require.Eventually(t, func() bool { return cut() >= devices/2 }, patience, 50*time.Millisecond, "hardly a stream was cut: the test proves nothing")
	l.stop()
	rateSeen = float64(l.count()) / time.Since(began).Seconds() // until the last answer
	for _, d := range all {
		d.Whole()
	}
	for g, id := range ids {
		l.check(t, senders[g].Client, members[id], []string{id})
	}
	sent, took = l.count(), resumes(all)
	cuts = len(took)
	for _, d := range all {
		r, again := d.Count()
		raw, repeats = raw+r, repeats+again
	}
	require.LessOrEqual(t, repeats*100, raw)
}
