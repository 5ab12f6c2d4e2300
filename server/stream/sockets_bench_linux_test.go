package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/rpc"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// A server under a benchmark: something that takes entries to the readers' connections.
type fanServer interface {
	// publish hands entries on; deliveries is how many have been written so far.
	publish(entries []*wire.Entry)
	deliveries() int64
	ready(n int) bool // n streams are open and have nothing to say
}

// BenchmarkSockets measures deliveries over loopback sockets, read by another process: whole through net/http and
// connect as the program puts them together, and as a bare server that writes the same bytes. Entries are published in
// bursts as fast as they are written, no more than 64 ahead.
func BenchmarkSockets(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		for _, burst := range []int{1, 16} {
			for _, kind := range []string{"parley", "bare"} {
				b.Run(fmt.Sprintf("streams=%d/burst=%d/%s", n, burst, kind), func(b *testing.B) { saturate(b, kind, n, burst) })
			}
		}
	}
}

// BenchmarkPaced measures how long single entries take to reach the last of the readers, and what they cost.
func BenchmarkPaced(b *testing.B) {
	for _, c := range []struct{ n, perSecond int }{{1000, 20}, {1000, 100}, {10000, 2}} {
		for _, kind := range []string{"parley", "h2", "bare"} {
			if kind == "h2" && c.n > 1000 {
				continue // as for idle ones
			}
			b.Run(fmt.Sprintf("streams=%d/rate=%d/%s", c.n, c.perSecond, kind), func(b *testing.B) { paced(b, kind, c.n, c.perSecond) })
		}
	}
}

// BenchmarkIdle measures the memory of streams that wait. There is nothing to repeat: run it with -benchtime 1x.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		for _, kind := range []string{"parley", "h2", "bare", "nethttp"} {
			if kind == "h2" && n > 1000 {
				continue // opening takes longer than the server waits for answers to its pings, which the readers do not give
			}
			b.Run(fmt.Sprintf("streams=%d/%s", n, kind), func(b *testing.B) { idle(b, kind, n) })
		}
	}
}

// BenchmarkLongQueues publishes much at once and waits until it is written: 256 entries are a frame, 400 are more than one.
func BenchmarkLongQueues(b *testing.B) {
	for _, burst := range []int{64, 256, 400, 800} {
		b.Run(fmt.Sprintf("streams=1000/burst=%d", burst), func(b *testing.B) { flood(b, newRig(b, "parley", 1000, 1), 1000, burst, 0) })
	}
}

// BenchmarkGroups has ten streams in each of 1,000 sessions, and commits of 64 messages, all in different sessions.
func BenchmarkGroups(b *testing.B) {
	b.Run("streams=10000/groups=1000", func(b *testing.B) { flood(b, newRig(b, "parley", 10000, 1000), 10, 64, 1024) })
}

func saturate(b *testing.B, kind string, n, burst int) {
	flood(b, newRig(b, kind, n, 1), n, burst, 64)
}

// flood publishes bursts as fast as they are written, each entry for n streams, at most ahead entries before them.
func flood(b *testing.B, r *rig, n, burst, ahead int) {
	m := r.start()
	published := 0
	for b.Loop() {
		r.srv.publish(r.entries(burst))
		published += burst
		for r.srv.deliveries() < int64(published-ahead)*int64(n) {
			time.Sleep(200 * time.Microsecond)
		}
	}
	r.await(int64(published) * int64(n))
	m.stop(b, r, int64(published)*int64(n))
}

func paced(b *testing.B, kind string, n, perSecond int) {
	r := newRig(b, kind, n, 1)
	m := r.start()
	published := 0
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for b.Loop() {
		<-tick.C
		r.srv.publish(r.entries(1))
		published++
	}
	r.await(int64(published) * int64(n))
	m.stop(b, r, int64(published)*int64(n))
}

func idle(b *testing.B, kind string, n int) {
	for b.Loop() {
		before := procValue("status", "VmRSS")
		goroutines := runtime.NumGoroutine()
		newRig(b, kind, n, 1)
		time.Sleep(2 * time.Second)
		b.ReportMetric(float64(procValue("status", "VmRSS")-before)/float64(n), "kB/stream")
		debug.FreeOSMemory()
		b.ReportMetric(float64(procValue("status", "VmRSS")-before)/float64(n), "kB/stream-freed")
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		b.ReportMetric(float64(ms.StackInuse)/float64(n), "stack-B/stream")
		b.ReportMetric(float64(ms.HeapInuse)/float64(n), "heap-B/stream")
		if to := os.Getenv("PARLEY_BENCH_PROFILES"); to != "" { // a folder for profiles of what waits
			for _, kind := range []string{"heap", "goroutine"} {
				f, err := os.Create(filepath.Join(to, kind))
				require.NoError(b, err)
				require.NoError(b, pprof.Lookup(kind).WriteTo(f, 0))
				require.NoError(b, f.Close())
			}
		}
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(n), "goroutines/stream")
	}
}

// rig is a server with readers.
type rig struct {
	b        *testing.B
	srv      fanServer
	sessions []uuid.UUID
	seqs     []int64 // the sessions' heads
	turn     int     // whose session the next entry is
	in       io.Writer
	out      *bufio.Scanner
}

// newRig starts a server and n readers, spread over as many sessions as there are groups.
func newRig(b *testing.B, kind string, n, groups int) *rig {
	r := &rig{b: b, seqs: make([]int64, groups)}
	for range groups {
		r.sessions = append(r.sessions, uuid.New())
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	switch kind {
	case "parley", "h2":
		r.srv = r.parley(ln, n)
	case "bare":
		r.srv = newBare(b, ln)
	case "nethttp":
		r.srv = netHTTP(b, ln)
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestReaders$") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", readersEnv, ln.Addr(), n, kind))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r.in, r.out = in, bufio.NewScanner(out)
	require.True(b, r.out.Scan() && r.out.Text() == "open", "readers: %q", r.out.Text())
	require.Eventually(b, func() bool { return r.srv.ready(n) }, time.Minute, 10*time.Millisecond)
	return r
}

// entries makes the next entries, the sessions taking turns, with the time in each.
func (r *rig) entries(k int) []*wire.Entry {
	out := make([]*wire.Entry, k)
	for i := range out {
		g := r.turn % len(r.sessions)
		r.turn++
		r.seqs[g]++
		text := string(stamp) + string(encodeStamp(time.Now().UnixNano())) + " this is a message of a usual size, as people write them"
		body, _ := proto.Marshal(&parleyv1.Message{Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: text}}}})
		out[i] = wire.Encode(message.Entry{SessionID: r.sessions[g], Seq: r.seqs[g], MessageID: uuid.New(), SenderID: "sender",
			SenderDevice: "d", Type: message.TypeText, Body: body, CreatedAt: time.Unix(1_700_000_000, 0)})
	}
	return out
}

func (r *rig) await(deliveries int64) {
	for r.srv.deliveries() < deliveries {
		time.Sleep(time.Millisecond)
	}
}

// report is what the readers have seen.
func (r *rig) report() (bytes, deliveries, cpu, p50, p99 int64) {
	_, err := fmt.Fprintln(r.in)
	require.NoError(r.b, err)
	require.True(r.b, r.out.Scan())
	_, err = fmt.Sscan(r.out.Text(), &bytes, &deliveries, &cpu, &p50, &p99)
	require.NoError(r.b, err)
	return
}

// meter is the state of things when a measurement began.
type meter struct {
	at           time.Time
	cpu          time.Duration
	readers      int64
	writes, seen int64
	mallocs      uint64
}

func (r *rig) start() meter {
	_, seen, cpu, _, _ := r.report()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	return meter{at: time.Now(), cpu: cpuTime(), readers: cpu, writes: procValue("io", "syscw"), seen: seen, mallocs: ms.Mallocs}
}

func (m meter) stop(b *testing.B, r *rig, deliveries int64) {
	b.StopTimer()
	took, cpu, writes := time.Since(m.at), cpuTime()-m.cpu, procValue("io", "syscw")-m.writes
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	d := float64(deliveries)
	for until := time.Now().Add(10 * time.Second); ; {
		_, seen, readers, p50, p99 := r.report()
		if seen-m.seen < deliveries && time.Now().Before(until) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		// A stamp's byte may be part of a number too: a few more are no mistake.
		require.GreaterOrEqual(b, seen-m.seen, deliveries, "deliveries that arrived")
		b.ReportMetric(float64(readers-m.readers)/d, "reader-cpu-ns/dlv")
		if p50 > 0 {
			b.ReportMetric(float64(p50)/1e6, "p50-ms")
			b.ReportMetric(float64(p99)/1e6, "p99-ms")
		}
		break
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(d/took.Seconds(), "dlv/s")
	b.ReportMetric(float64(cpu)/d, "cpu-ns/dlv")
	b.ReportMetric(float64(writes)/d, "writes/dlv")
	b.ReportMetric(float64(ms.Mallocs-m.mallocs)/d, "allocs/dlv")
}

// parley is the server as the program builds it, over a world in memory.
func (r *rig) parley(ln net.Listener, n int) fanServer {
	b := r.b
	reg := prometheus.NewRegistry()
	caught := &catcher{Registerer: reg}
	w := newWorldOf(b, stream.Config{}, stream.NewMetrics(caught))
	for i := range n {
		user := fmt.Sprintf("u%d", i)
		g := i % len(r.sessions)
		r.seqs[g] = w.joinQuietly(r.sessions[g], user)
		w.synced[user+"/d"] = true
	}
	for i := range n {
		g := i % len(r.sessions)
		w.cursors[fmt.Sprintf("u%d/d", i)] = map[uuid.UUID]int64{r.sessions[g]: r.seqs[g]}
	}
	serveWorld(b, w, ln, reg)
	return &parleyServer{world: w, reg: reg, written: caught.counter}
}

type parleyServer struct {
	*world
	reg     *prometheus.Registry
	written prometheus.Counter
}

// catcher keeps the first counter registered, that of deliveries: gathering all metrics time and again would be measured.
type catcher struct {
	prometheus.Registerer
	counter prometheus.Counter
}

func (c *catcher) MustRegister(all ...prometheus.Collector) {
	c.Registerer.MustRegister(all...)
	for _, one := range all {
		if counter, ok := one.(prometheus.Counter); ok && c.counter == nil {
			c.counter = counter
		}
	}
}

func (p *parleyServer) publish(entries []*wire.Entry) { p.hub.Publish(entries) }
func (p *parleyServer) deliveries() int64 {
	var m dto.Metric
	_ = p.written.Write(&m)
	return int64(m.GetCounter().GetValue())
}

// ready: every stream has said Opened and CaughtUp.
func (p *parleyServer) ready(n int) bool {
	return p.mgr.Streams() == int64(n) && p.metric("parley_stream_frame_bytes") >= 2*int64(n)
}

func (p *parleyServer) metric(name string) int64 {
	all, _ := p.reg.Gather()
	for _, f := range all {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return int64(m.GetCounter().GetValue()) + int64(m.GetHistogram().GetSampleCount())
		}
	}
	return 0
}

// bare is the least that a Go server can do: a goroutine per connection that writes what it is told to.
type bare struct {
	b     *testing.B
	conns atomic.Pointer[[]*bareConn]
	done  atomic.Int64
}

type bareConn struct {
	conn    net.Conn
	wake    chan struct{}
	pending atomic.Int64
	piece   atomic.Pointer[[]byte]
}

func newBare(b *testing.B, ln net.Listener) *bare {
	s := &bare{b: b}
	s.conns.Store(&[]*bareConn{})
	go func() {
		var all []*bareConn
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c := &bareConn{conn: conn, wake: make(chan struct{}, 1)}
			all = append(all, c)
			now := all[:len(all):len(all)]
			s.conns.Store(&now)
			go s.serve(c)
		}
	}()
	b.Cleanup(func() {
		_ = ln.Close()
		for _, c := range *s.conns.Load() {
			_ = c.conn.Close()
			close(c.wake)
		}
	})
	return s
}

func (s *bare) serve(c *bareConn) {
	var buf []byte
	for range c.wake {
		k := c.pending.Swap(0)
		buf = buf[:0]
		for range k {
			buf = append(buf, *c.piece.Load()...)
		}
		if len(buf) == 0 {
			continue
		}
		if _, err := c.conn.Write(buf); err != nil {
			return
		}
		s.done.Add(k)
	}
}

func (s *bare) publish(entries []*wire.Entry) {
	f := wire.NewFrame(wire.Proto)
	for _, e := range entries {
		f.Reset(1 << 20)
		f.Entry(e)
	}
	piece := append([]byte("1b4\r\n\x00\x00\x00\x00\x00"), f.Bytes()...)
	for _, c := range *s.conns.Load() {
		c.piece.Store(&piece)
		c.pending.Add(int64(len(entries)))
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (s *bare) deliveries() int64 { return s.done.Load() }
func (s *bare) ready(n int) bool  { return len(*s.conns.Load()) == n }

// netHTTP is net/http alone, holding answers that never end.
func netHTTP(b *testing.B, ln net.Listener) fanServer {
	s := &held{}
	srv := rpc.NewHTTPServer(context.Background(), s, nil, slog.New(slog.DiscardHandler))
	go func() { _ = srv.Serve(ln) }()
	b.Cleanup(func() { _ = srv.Close() })
	return s
}

type held struct{ n atomic.Int64 }

func (s *held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	s.n.Add(1)
	<-r.Context().Done()
}

func (s *held) publish([]*wire.Entry) {}
func (s *held) deliveries() int64     { return 0 }
func (s *held) ready(n int) bool      { return s.n.Load() == int64(n) }
