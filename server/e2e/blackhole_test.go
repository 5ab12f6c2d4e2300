package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// holeScene is two nodes with PostgreSQL and Redis behind links of the first node's own.
func holeScene(t *testing.T) (nodes []*rig.Server, pg, red *testenv.Link) {
	t.Helper()
	database, cache := testenv.OwnPostgres(t, nil), testenv.OwnRedis(t, nil)
	pg, pgURL := testenv.NewLinkTo(t, database.TCPURL())
	red, redisURL := testenv.NewLinkTo(t, cache.TCPURL())
	key := "PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem")
	nodes = []*rig.Server{rig.StartOn(t, pgURL, key, "PARLEY_REDIS_URL="+redisURL, "PARLEY_UNARY_TIMEOUT=10s"),
		rig.StartOn(t, database.TCPURL(), key, "PARLEY_REDIS_URL="+cache.TCPURL())}
	waitPeers(t, nodes)
	return nodes, pg, red
}

// PostgreSQL falls silent for one node, without a word: what that node is asked fails as unavailable or takes place later,
// the other node does not care, and afterwards everything is there once and in order.
func TestPostgresSilentForOneNode(t *testing.T) {
	t.Parallel()
	silence := size(time.Second, 8*time.Second, scaled(30*time.Second))
	var sent, meanwhile int
	var codes map[connect.Code]int
	var back time.Duration
	report(t, "B1", fmt.Sprintf("PostgreSQL mute (no RST) for one of two nodes for %s, under load", silence),
		"0 acked lost, 0 twice, 0 out of order; the other node goes on; clients see UNAVAILABLE; back <= 5 s", func() string {
			return fmt.Sprintf("%d acked, %d of them on the other node meanwhile; refused %v; the node was back after %s", sent, meanwhile, codes, back.Round(time.Millisecond))
		})
	nodes, pg, _ := holeScene(t)
	near, far := nodes[0].NewDevice("near", "d"), nodes[1].NewDevice("far", "d")
	nearWatch, farWatch := nodes[0].NewDevice("near", "w"), nodes[1].NewDevice("far", "w")
	id := near.Group(t.Context(), "far")
	all := []*rig.Device{near, far, nearWatch, farWatch}
	for _, d := range all {
		d.Connect()
		d.WaitCaughtUp(1)
	}
	l := startPaced(t, []*rig.Device{near, far}, []string{id}, 5*time.Millisecond, nil)
	time.Sleep(time.Second)
	pg.Mute()
	time.Sleep(silence / 2)
	before := l.count()
	time.Sleep(silence / 2)
	require.Eventually(t, func() bool { meanwhile = l.count() - before; return meanwhile > 0 }, patience, 10*time.Millisecond,
		"the other node does not go on")
	pg.Heal()
	healed := time.Now()
	probe := nodes[0].Client("probe", "d")
	require.Eventually(t, func() bool {
		_, err := probe.Messages.SendMessage(rig.Once(t.Context()), rig.To("far", "back?"))
		return err == nil
	}, patience, 20*time.Millisecond, "the node does not come back")
	back = time.Since(healed)
	require.Less(t, back, size(patience, patience, 5*time.Second))
	time.Sleep(size(100*time.Millisecond, time.Second, 5*time.Second))
	l.stop()
	l.check(t, far.Client, all, []string{id})
	sent, codes = l.count(), l.codes
	for code := range codes {
		require.Contains(t, []connect.Code{connect.CodeUnavailable, connect.CodeDeadlineExceeded}, code, "codes %v", codes)
	}
}

// Redis falls silent for one node: it hears no hints, and nobody hears its own. Every entry is delivered all the same,
// within the 5 s that are promised under any fault.
func TestRedisSilentForOneNode(t *testing.T) {
	t.Parallel()
	silence := size(time.Second, 8*time.Second, scaled(30*time.Second))
	took := &delays{took: map[int32][]time.Duration{}}
	var sent int
	report(t, "B2", fmt.Sprintf("Redis mute (no RST) for one of two nodes for %s, under load", silence),
		"0 failed sends, 0 lost, 0 twice, 0 out of order; every entry on every device of both nodes within 5 s", func() string {
			return fmt.Sprintf("%d sent; delivered before: p99 %s, meanwhile: p50 %s, p99 %s, most %s; after: p99 %s", sent,
				took.quantile(0, 0.99).Round(time.Millisecond), took.quantile(1, 0.5).Round(time.Millisecond), took.quantile(1, 0.99).Round(time.Millisecond),
				took.quantile(1, 1).Round(time.Millisecond), took.quantile(2, 0.99).Round(time.Millisecond))
		})
	nodes, _, red := holeScene(t)
	near, far := nodes[0].NewDevice("near", "d"), nodes[1].NewDevice("far", "d")
	nearWatch, farWatch := nodes[0].NewDevice("near", "w"), nodes[1].NewDevice("far", "w")
	nearWatch.Arrived, farWatch.Arrived = took.arrived, took.arrived
	id := near.Group(t.Context(), "far")
	all := []*rig.Device{near, far, nearWatch, farWatch}
	for _, d := range all {
		d.Connect()
		d.WaitCaughtUp(1)
	}
	hindered, began := watchLag(t, nodes[1].PostgresURL, nodes...), time.Now()
	l := startPaced(t, []*rig.Device{near, far}, []string{id}, 10*time.Millisecond, took.before)
	l.lag.Store(hindered)
	time.Sleep(silence / 4)
	took.phase.Store(1)
	red.Mute()
	time.Sleep(silence)
	red.Heal()
	waitPeers(t, nodes)
	took.phase.Store(2)
	time.Sleep(silence / 4)
	l.stop()
	require.Empty(t, l.codes, "sends that failed")
	l.check(t, far.Client, all, []string{id})
	sent = l.count()
	require.Less(t, took.quantile(1, 1), prompt(5*time.Second, hindered, began))
}

// The way between devices and their node falls silent: the devices notice by the missing heartbeat, go on at the other
// node, and neither lose anything nor see anything twice; the node lets the dead streams go.
func TestNodeSilentForItsDevices(t *testing.T) {
	t.Parallel()
	rounds, silence := size(1, 2, scaledTimes(10)), size(time.Second, 3*time.Second, 10*time.Second)
	var all []*rig.Device
	var sent int
	report(t, "B3", fmt.Sprintf("the way between devices and one node mute (no RST) for %s, %d times, under load", silence, rounds),
		"0 lost, 0 twice, 0 out of order; devices go on at the other node; the node ends the dead streams", func() string {
			return fmt.Sprintf("%d acked, resumed (from giving up on) %s", sent, spread(resumes(all)))
		})
	nodes := startNodes(t, 2, "PARLEY_HEARTBEAT=300ms")
	waitPeers(t, nodes)
	link := testenv.NewLink(t, rig.Addrs(nodes[0])[0])
	addrs := []string{link.Addr(), rig.Addrs(nodes[1])[0]}
	sender := nodes[1].NewDevice("sender", "d")
	users := size(2, 6, 50)
	var names []string
	for n := range users {
		names = append(names, fmt.Sprint("u", n))
		d := nodes[1].NewDevice(names[n], "d")
		d.Over(addrs...)
		d.Silence = 3 * time.Second // a heartbeat comes each 300 ms
		all = append(all, d)
	}
	id := sender.Group(t.Context(), names...)
	for _, d := range all {
		d.Connect()
		d.WaitCaughtUp(1)
	}
	l := startPaced(t, []*rig.Device{sender}, []string{id}, 5*time.Millisecond, nil)
	for range rounds {
		// All begin on the node that falls silent, also those who left it because a busy machine kept its heartbeats back.
		require.Eventually(t, func() bool {
			for _, d := range all {
				if d.At() == 0 {
					continue
				}
				d.Offline()
				for d.At() != 0 {
					d.Move()
				}
				d.HTTP.CloseIdleConnections()
				before := d.CaughtUps()
				d.Connect()
				d.WaitCaughtUp(before + 1)
			}
			return nodes[0].Metric("parley_streams") == float64(users)
		}, patience, 20*time.Millisecond)
		caughtUps := map[*rig.Device]int{}
		for _, d := range all {
			caughtUps[d] = d.CaughtUps()
		}
		link.Mute()
		time.Sleep(silence)
		for _, d := range all {
			d.WaitCaughtUp(caughtUps[d] + 1)
		}
		require.Eventually(t, func() bool { return nodes[0].Metric("parley_streams") == 0 }, patience, 20*time.Millisecond,
			"dead streams are still there")
		link.Heal()
	}
	l.stop()
	sent = l.count()
	l.check(t, sender.Client, all, []string{id})
}
