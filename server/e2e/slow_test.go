package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/e2e/rig"
)

// stall opens a stream over a raw HTTP/1.1 connection with a small receive buffer and, after its head, stops reading;
// pace, when positive, is how long it waits between single bytes.
func stall(t *testing.T, s *rig.Server, token string, pace time.Duration) {
	addr := strings.TrimPrefix(s.URL, "http://")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	require.NoError(t, tcp.SetReadBuffer(4096))
	_, err = fmt.Fprintf(conn, "GET /v1/subscribe HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", addr, token)
	require.NoError(t, err)
	head := make([]byte, 64)
	_, err = io.ReadFull(conn, head)
	require.NoError(t, err)
	require.Contains(t, string(head), "200")
	if pace == 0 {
		return // it reads no more; the server's own count tells when it is gone
	}
	go func() {
		one := make([]byte, 1)
		for {
			if _, err := conn.Read(one); err != nil {
				return
			}
			time.Sleep(pace)
		}
	}()
}

// stallH2 opens a stream over HTTP/2 with a small window that nobody reads.
func stallH2(t *testing.T, s *rig.Server, token string) {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10}}
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/v1/subscribe", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := tr.RoundTrip(req)
	require.NoError(t, err)
	t.Cleanup(func() { cancel(); _ = res.Body.Close(); tr.CloseIdleConnections() })
	require.Equal(t, http.StatusOK, res.StatusCode)
}

// slowWorld is three nodes with groups of 20 in which most read and some do not. The slow ones share one more group, which is
// flooded. First another one is, with as many members who all read: what that takes of memory is not the slow ones' doing.
type slowWorld struct {
	nodes          []*rig.Server
	senders, fast  []*rig.Device
	groups         []string
	members        map[string][]*rig.Device // by group, those who read
	slow           []*rig.Device            // not online yet
	flood, control string
	took           *delays
}

func newSlowWorld(t *testing.T, users int) *slowWorld {
	const group = 20
	w := &slowWorld{nodes: startNodes(t, 3), members: map[string][]*rig.Device{}, took: &delays{took: map[int32][]time.Duration{}}}
	waitPeers(t, w.nodes)
	var slow []string
	for g := range users / group {
		sender := w.nodes[g%3].NewDevice(fmt.Sprintf("sender%03d", g), "d")
		var names []string
		var own []*rig.Device
		for n := range group {
			name := fmt.Sprintf("u%03d-%d", g, n)
			names = append(names, name)
			opts := []connect.ClientOption{}
			if n%2 == 0 {
				opts = append(opts, rig.H2)
			}
			d := w.nodes[(g+n)%3].NewDevice(name, "d", opts...)
			if n < 2 || n == 2 && g%2 == 0 {
				w.slow, slow = append(w.slow, d), append(slow, name)
				continue
			}
			d.Arrived = w.took.arrived
			own = append(own, d)
		}
		id := sender.Group(t.Context(), names...)
		w.senders, w.groups, w.fast, w.members[id] = append(w.senders, sender), append(w.groups, id), append(w.fast, own...), own
	}
	w.flood = w.senders[0].Group(t.Context(), slow...)
	var readers []string
	for _, d := range w.fast[:len(slow)] {
		readers = append(readers, d.User)
	}
	w.control = w.senders[0].Group(t.Context(), readers...)
	for _, d := range w.fast {
		d.Connect()
	}
	for _, d := range w.fast {
		d.WaitCaughtUp(1)
	}
	return w
}

// send sends a group more than all the buffers of kernel and queue hold, so that each of the stalled is really blocked.
func (w *slowWorld) send(t *testing.T, group string, bound float64) (last int64) {
	body := strings.Repeat("x", 15_000)
	for range 400 {
		last = w.senders[0].Send(t.Context(), group, body).GetSeq()
		require.LessOrEqual(t, total(w.nodes, "parley_stream_queue_bytes"), bound)
	}
	return last
}

// memory is how much memory each node's process holds.
func (w *slowWorld) memory() (all []float64) {
	for _, n := range w.nodes {
		all = append(all, n.Metric("process_resident_memory_bytes"))
	}
	return all
}

// A12: devices that stop reading, or read a byte at a time, cost the others nothing, are let go, and lose nothing: they find
// everything when they come back.
func TestSlowReadersCostOthersNothing(t *testing.T) {
	users, rate, during := size(20, 60, 2000), size(20, 40, 200), size(time.Second, 5*time.Second, scaled(30*time.Second))
	var figures []string
	w := newSlowWorld(t, users)
	report(t, "A12", fmt.Sprintf("%d of %d devices on three nodes stop reading or read a byte a second, over HTTP/1.1 and HTTP/2, at %d msg/s", len(w.slow), users, rate),
		"others' p99 <= 1.2x quiet; stalled streams closed <= 10 s; RSS <= +64 MiB; after resume 0 loss",
		func() string { return strings.Join(figures, "; ") })
	workers := min(len(w.senders), 6)
	l := startPaced(t, w.senders[:workers], nil, time.Second*time.Duration(workers)/time.Duration(rate), w.took.before, inTurn(w.senders, w.groups, workers))
	live := float64(len(w.fast) + len(w.slow))
	readTo := w.send(t, w.control, live*512*1024)
	before := w.memory() // the most of it: a node that rests gives memory back, which the same flood takes again
	for _, d := range w.fast[:len(w.slow)] {
		d.WaitSeq(w.control, readTo)
	}
	for n, now := range w.memory() {
		before[n] = max(before[n], now)
	}
	time.Sleep(during)
	quiet := w.took.quantile(0, 0.99)
	for n, now := range w.memory() {
		before[n] = max(before[n], now)
	}

	w.took.phase.Store(1)
	hindered, began := watchLag(t, w.nodes[0].PostgresURL, w.nodes...), time.Now()
	for n, d := range w.slow {
		switch node := w.nodes[n%3]; {
		case n%5 == 4:
			stall(t, node, d.Token, time.Second)
		case n%2 == 0:
			stallH2(t, node, d.Token)
		default:
			stall(t, node, d.Token, 0)
		}
	}
	require.Eventually(t, func() bool { return total(w.nodes, "parley_streams") == live }, patience, 20*time.Millisecond)
	last := w.send(t, w.flood, live*512*1024)
	flooded := time.Now()
	var grown atomic.Int64
	require.Eventually(t, func() bool {
		for n, now := range w.memory() {
			grown.Store(max(grown.Load(), int64(now-before[n])))
		}
		return total(w.nodes, "parley_streams") <= float64(len(w.fast))
	}, size(patience, patience, 10*time.Second), 100*time.Millisecond, "stalled streams are still there")
	closed := time.Since(flooded)
	if left := during - closed; left > 0 {
		time.Sleep(left)
	}
	l.stop()
	p99 := w.took.quantile(1, 0.99)
	figures = append(figures, fmt.Sprintf("p99 quiet %s, meanwhile %s; all stalled streams gone %s after the flood; a node grew by %d MiB at most",
		quiet.Round(time.Millisecond), p99.Round(time.Millisecond), closed.Round(10*time.Millisecond), grown.Load()>>20))
	require.LessOrEqual(t, grown.Load(), int64(64<<20))
	require.Less(t, p99, prompt(max(quiet*6/5, 100*time.Millisecond), hindered, began))
	for g, id := range w.groups {
		l.check(t, w.senders[g].Client, w.members[id], []string{id})
	}
	for _, d := range w.slow {
		d.Connect()
	}
	for _, d := range w.slow {
		d.WaitSeq(w.flood, last)
		require.Equal(t, upTo(last), d.Seqs(w.flood))
	}
	requireNoProblems(t, slices.Concat(w.slow, w.fast)...)
	figures = append(figures, fmt.Sprintf("%d devices came back and found all", len(w.slow)))
}
