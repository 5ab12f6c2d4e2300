package rpc

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/refusal"
)

const goodSend = `{"peerUserId":"bob","messageId":"01890a5d-ac96-774b-bcce-b302099a8057","content":{"text":{"body":"x"}}}`

// asAlice calls as alice.
func asAlice(t *testing.T, client *http.Client, url, body string) (status int, retryAfter []string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+aliceToken)
	res, err := client.Do(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	res.Body.Close()
	return res.StatusCode, res.Header.Values("Retry-After")
}

// guarded serves as the program does, with its bounds of connections.
func guarded(t *testing.T, cfg Config, conns *Conns) (addr string) {
	t.Helper()
	h, err := New(cfg)
	require.NoError(t, err)
	srv := NewHTTPServer(t.Context(), h, nil, cfg.Log)
	conns.Watch(srv)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go srv.Serve(conns.Listen(ln)) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// refused is true when a connection is closed as it comes, which dialing may see already.
func refused(t *testing.T, dialer *net.Dialer, addr string) bool {
	t.Helper()
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return true
	}
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err = conn.Read(make([]byte, 1))
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}

// closed waits until the server has closed the connection, and fails after a while.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err := io.Copy(io.Discard, conn)
	if err != nil {
		ne, ok := err.(net.Error) //nolint:errorlint // as net returns it
		require.False(t, ok && ne.Timeout(), "still open")
	}
}

func honest(t *testing.T, addr string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	requireServed(t, client, addr)
}

func requireServed(t *testing.T, client *http.Client, addr string) {
	t.Helper()
	status, _ := asAlice(t, client, "http://"+addr+sendPath, goodSend)
	require.Equal(t, http.StatusOK, status)
}

// An address gets as many connections as it may have, exactly, and one more for each that it closes. A stream that was taken
// from net/http counts until it ends.
func TestConnectionsOfAnAddress(t *testing.T) {
	reg := prometheus.NewRegistry()
	conns := NewConns(0, 3, nil, reg)
	addr := guarded(t, (&fakes{send: sent}).config(t), conns)
	works := func(conn net.Conn) bool {
		_, err := fmt.Fprintf(conn, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
		if err != nil {
			return false
		}
		var b [12]byte
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		n, err := io.ReadFull(conn, b[:])
		return err == nil && string(b[:n]) == "HTTP/1.1 404"
	}
	var open []net.Conn
	for range 3 {
		conn := dial(t, addr)
		require.True(t, works(conn))
		open = append(open, conn)
	}
	require.True(t, refused(t, &net.Dialer{}, addr), "one too many")
	require.EqualValues(t, 3, conns.Open())
	families, err := reg.Gather()
	require.NoError(t, err)
	names := make([]string, 0, len(families))
	for _, f := range families {
		names = append(names, f.GetName())
	}
	require.Equal(t, []string{"parley_connections", "parley_connections_refused_total"}, names)
	open[0].Close()
	require.Eventually(t, func() bool { return conns.Open() == 2 }, 10*time.Second, time.Millisecond)
	require.True(t, works(dial(t, addr)))

	proxies, err := ParseProxies([]string{"127.0.0.1"})
	require.NoError(t, err)
	conns = NewConns(5, 3, proxies, nil)
	addr = guarded(t, (&fakes{send: sent}).config(t), conns)
	for range 5 {
		require.True(t, works(dial(t, addr)), "proxies are bounded in all only")
	}
	require.True(t, refused(t, &net.Dialer{}, addr))
}

func TestHijackedConnectionsCount(t *testing.T) {
	conns := NewConns(0, 2, nil, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	taken := make(chan net.Conn, 1)
	srv := NewHTTPServer(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			taken <- conn
		}
	}), nil, slog.New(slog.DiscardHandler))
	conns.idle = 10 * time.Millisecond
	conns.Watch(srv)
	go srv.Serve(conns.Listen(ln)) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })
	_, err = io.WriteString(dial(t, ln.Addr().String()), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	conn := <-taken
	time.Sleep(100 * time.Millisecond) // it is no idle connection
	require.EqualValues(t, 1, conns.Open())
	require.NoError(t, conn.Close())
	require.Error(t, conn.Close())
	require.EqualValues(t, 0, conns.Open(), "closed twice, counted once")
}

// Who was never let in may not keep a connection, over HTTP/1.1 and HTTP/2; who was may.
func TestStrangersMayNotIdle(t *testing.T) {
	conns := NewConns(0, 0, nil, nil)
	conns.idle = 300 * time.Millisecond
	addr := guarded(t, (&fakes{send: sent}).config(t), conns)

	silent := dial(t, addr)
	closed(t, silent)

	stranger := dial(t, addr)
	_, err := io.WriteString(stranger, "POST "+sendPath+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	require.NoError(t, err)
	closed(t, stranger)

	preface := dial(t, addr)
	_, err = io.WriteString(preface, http2.ClientPreface)
	require.NoError(t, err)
	require.NoError(t, http2.NewFramer(preface, preface).WriteSettings())
	closed(t, preface)

	for _, client := range []*http.Client{{Transport: &http.Transport{}}, h2c(t)} {
		requireServed(t, client, addr)
		require.EqualValues(t, 1, conns.Open())
		time.Sleep(3 * conns.idle)
		require.EqualValues(t, 1, conns.Open(), "a known device keeps its connection")
		requireServed(t, client, addr)
		client.CloseIdleConnections()
		require.Eventually(t, func() bool { return conns.Open() == 0 }, 10*time.Second, time.Millisecond)
	}
}

// The bounds of HTTP are set, and headers past theirs are refused.
func TestHTTPBounds(t *testing.T) {
	srv := NewHTTPServer(t.Context(), nil, nil, slog.New(slog.DiscardHandler))
	require.Equal(t, 10*time.Second, srv.ReadHeaderTimeout)
	require.Equal(t, 10*time.Second, strangerIdle)
	require.Equal(t, 2*time.Minute, srv.IdleTimeout)
	require.Zero(t, srv.ReadTimeout, "it would cut streams")
	require.Zero(t, srv.WriteTimeout, "it would cut streams")
	require.Positive(t, srv.HTTP2.SendPingTimeout)
	require.Positive(t, srv.HTTP2.PingTimeout)
	require.Positive(t, srv.HTTP2.WriteByteTimeout)

	addr := guarded(t, (&fakes{send: sent}).config(t), NewConns(0, 0, nil, nil))
	for _, client := range []*http.Client{{Transport: &http.Transport{}}, h2c(t)} {
		for size, want := range map[int]int{8 << 10: http.StatusOK, 32 << 10: http.StatusRequestHeaderFieldsTooLarge} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+sendPath, strings.NewReader(goodSend))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+aliceToken)
			req.Header.Set("X-Padding", strings.Repeat("x", size))
			res, err := client.Do(req)
			if err != nil { // an HTTP/2 client is told the bound beforehand, and keeps to it
				require.ErrorContains(t, err, "larger than peer's advertised limit")
				require.NotEqual(t, http.StatusOK, want)
				continue
			}
			res.Body.Close()
			require.Equal(t, want, res.StatusCode, "%d bytes", size)
		}
	}
}

// Compressed requests cost little: what they would become is never made. The whole of a bomb costs at most 20 ms of
// processor time, of which a test among others can only say that what is unpacked is bounded.
func TestBombs(t *testing.T) {
	unpacked := func(raw []byte) (n int64, err error) {
		g := newGunzip()
		if err := g.Reset(bytes.NewReader(raw)); err != nil {
			return 0, err
		}
		return io.Copy(io.Discard, g)
	}
	zip := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := w.Write(b)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	noise := make([]byte, MaxRequestBytes)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	for size, fits := range map[int]bool{MaxRequestBytes - 1: true, MaxRequestBytes: true, MaxRequestBytes + 1: false, 100 << 20: false} {
		n, err := unpacked(zip(make([]byte, size)))
		require.Equal(t, fits, err == nil, "%d", size)
		require.LessOrEqual(t, n, int64(MaxRequestBytes))
	}
	n, err := unpacked(zip(noise))
	require.NoError(t, err)
	require.EqualValues(t, MaxRequestBytes, n)
	// Many empty members in a row cost time without becoming any bytes; the request's own bound bounds them.
	empty := zip(nil)
	n, err = unpacked(bytes.Repeat(empty, MaxRequestBytes/len(empty)))
	require.NoError(t, err)
	require.Zero(t, n)
}

// raw is an HTTP/2 connection that does as it likes.
type raw struct {
	net.Conn
	*http2.Framer
	buf bytes.Buffer
	enc *hpack.Encoder
}

func newRaw(t *testing.T, addr string) *raw {
	t.Helper()
	return rawOver(t, dial(t, addr))
}

// elsewhere dials from an address that honest users do not have.
func elsewhere(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func rawOver(t *testing.T, conn net.Conn) *raw {
	t.Helper()
	r := &raw{Conn: conn}
	_, err := io.WriteString(r.Conn, http2.ClientPreface)
	require.NoError(t, err)
	r.Framer = http2.NewFramer(r.Conn, r.Conn)
	r.enc = hpack.NewEncoder(&r.buf)
	require.NoError(t, r.WriteSettings())
	return r
}

func (r *raw) headers() []byte {
	r.buf.Reset()
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "x"}, {":path", parleyv1connect.StateServiceGetUnreadProcedure},
		{"content-type", "application/json"}, {"authorization", "Bearer nobody"}} {
		_ = r.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return bytes.Clone(r.buf.Bytes())
}

// settled waits until the goroutines are few again.
func settled(t *testing.T, before int) {
	t.Helper()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+20 }, 30*time.Second, 20*time.Millisecond,
		"goroutines stay")
}

// Who opens and resets streams as fast as they can loses the connection soon, and gets no other for a while; those who have
// one keep it, and others are served meanwhile.
func TestRapidReset(t *testing.T) {
	reg := prometheus.NewRegistry()
	conns := NewConns(0, 0, nil, reg)
	addr := guarded(t, (&fakes{send: sent}).config(t), conns)
	honest(t, addr)
	before := runtime.NumGoroutine()
	neighbour := rawOver(t, elsewhere(t, addr))
	r := rawOver(t, elsewhere(t, addr))
	gone := make(chan struct{})
	go func() { closedQuietly(r.Conn); close(gone) }()
	most, sent := 0, 0
	for id := uint32(1); id < 1_000_000; id += 2 {
		err := r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.headers(), EndHeaders: true})
		if err == nil {
			err = r.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			break // the server has had enough
		}
		sent++
		most = max(most, runtime.NumGoroutine())
	}
	<-gone
	t.Logf("%d streams were opened and reset, with at most %d goroutines", sent, most-before)
	require.Less(t, sent, 400_000, "it took all of them")
	require.Less(t, most-before, 5*MaxConcurrentStreams, "goroutines")
	honest(t, addr)
	require.True(t, refused(t, &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}, addr))
	var counted dto.Metric
	require.NoError(t, conns.refused.WithLabelValues("abuse").Write(&counted))
	require.InDelta(t, 1, counted.GetCounter().GetValue(), 0)
	require.NoError(t, neighbour.WritePing(false, [8]byte{1}))
	require.NoError(t, neighbour.SetReadDeadline(time.Now().Add(30*time.Second)))
	for {
		f, err := neighbour.ReadFrame()
		require.NoError(t, err, "the other connection of the address was closed")
		if f.Header().Type == http2.FramePing {
			break
		}
	}
	neighbour.Close()
	settled(t, before)
}

// Calls that are given up now and then, and those of a client that goes away with many under way, are no abuse.
func TestHonestResets(t *testing.T) {
	conns := NewConns(0, 0, nil, nil)
	waiting := make(chan struct{}, 2*maxResets)
	srv := NewHTTPServer(t.Context(), &front{obs: silent, next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		waiting <- struct{}{}
		<-r.Context().Done()
	})}, nil, slog.New(slog.DiscardHandler))
	conns.Watch(srv)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go srv.Serve(conns.Listen(ln)) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })
	r := newRaw(t, ln.Addr().String())
	go closedQuietly(r.Conn)
	begin := func(id uint32) {
		require.NoError(t, r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.headers(), EndHeaders: true}))
		<-waiting
	}
	id := uint32(1)
	for range maxResets / 2 {
		begin(id)
		require.NoError(t, r.WriteRSTStream(id, http2.ErrCodeCancel))
		id += 2
	}
	for range maxResets / 4 {
		begin(id)
		id += 2
	}
	require.NoError(t, r.Close())
	require.Eventually(t, func() bool { return conns.Open() == 0 }, 30*time.Second, time.Millisecond)
	require.False(t, conns.penalties.punished("127.0.0.1", realNow()))
}

// Penalties grow while somebody goes on, end, and are forgotten.
func TestPenalties(t *testing.T) {
	p, now := newPenalties(), realNow()
	want := firstPenalty
	for range 8 {
		require.False(t, p.punished("a", now))
		p.punish("a", now)
		require.True(t, p.punished("a", now.Add(want)))
		p.punish("a", now.Add(want/2))
		now = now.Add(want + 1)
		require.False(t, p.punished("a", now))
		want = min(2*want, maxPenalty)
	}
	require.False(t, p.punished("b", now))
	now = now.Add(maxPenalty + penaltyMemory + 1)
	p.punish("a", now)
	require.False(t, p.punished("a", now.Add(firstPenalty+1)), "it begins anew")
	for i := range 2 * maxPenalties {
		p.punish(fmt.Sprint(i), now)
	}
	require.Equal(t, maxPenalties, p.list.Len())
	require.False(t, p.punished("a", now))
	require.True(t, p.punished(fmt.Sprint(2*maxPenalties-1), now))
}

// Headers that never end do not fill the memory: the server closes the connection.
func TestContinuationFlood(t *testing.T) {
	addr := guarded(t, (&fakes{send: sent}).config(t), NewConns(0, 0, nil, nil))
	r := newRaw(t, addr)
	require.NoError(t, r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.headers()}))
	gone := make(chan struct{})
	go func() { closedQuietly(r.Conn); close(gone) }()
	field := hpack.HeaderField{Name: "x-flood", Value: strings.Repeat("x", 1000), Sensitive: true}
	sent := 0
	for ; sent < 256<<20; sent += 1000 {
		r.buf.Reset()
		require.NoError(t, r.enc.WriteField(field))
		if r.WriteContinuation(1, false, r.buf.Bytes()) != nil {
			break
		}
	}
	require.Less(t, sent, 256<<20, "it took all of it")
	<-gone
	honest(t, addr)
}

func closedQuietly(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// Connections that begin and do not go on are closed in their time, however many, and hold nobody up.
func TestSlowBeginners(t *testing.T) {
	conns := NewConns(0, 0, nil, nil)
	conns.idle = 500 * time.Millisecond
	addr := guarded(t, (&fakes{send: sent}).config(t), conns)
	honest(t, addr)
	before := runtime.NumGoroutine()
	starts := []string{"", "P", "PRI * HTTP/2.0\r\n\r\nSM", http2.ClientPreface, "POST /x HTTP/1.1\r\nHost: x\r\nX-A: "}
	var open []net.Conn
	for i := range 200 {
		conn := dial(t, addr)
		_, err := io.WriteString(conn, starts[i%len(starts)])
		require.NoError(t, err)
		open = append(open, conn)
	}
	honest(t, addr)
	for _, conn := range open {
		closed(t, conn)
	}
	honest(t, addr)
	settled(t, before)
}

// A frame that is announced as larger than allowed ends the connection before it comes.
func TestHugeFrame(t *testing.T) {
	addr := guarded(t, (&fakes{send: sent}).config(t), NewConns(0, 0, nil, nil))
	r := newRaw(t, addr)
	frame := binary.BigEndian.AppendUint32(nil, 1<<24-1)[1:]
	_, err := r.Conn.Write(append(frame, 0, 0, 0, 0, 0, 1))
	require.NoError(t, err)
	closed(t, r.Conn)
	honest(t, addr)
}

// Who goes on although nothing is answered but refusals loses the connection; who is let in now and then does not.
func TestDeafConnection(t *testing.T) {
	cfg := (&fakes{send: sent}).config(t)
	turn := &turns{every: 50}
	cfg.Addresses = turn
	addr := guarded(t, cfg, NewConns(0, 0, nil, nil))
	conn := dial(t, addr)
	answers := bufio.NewReader(conn)
	ask := func() (status int, err error) {
		if _, err = fmt.Fprintf(conn, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return 0, err
		}
		res, err := http.ReadResponse(answers, nil)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, res.Body)
		return res.StatusCode, errors.Join(err, res.Body.Close())
	}
	for range 3 * maxRefused {
		_, err := ask()
		require.NoError(t, err)
	}
	turn.never.Store(true)
	refused := 0
	for ; refused < 2*maxRefused; refused++ {
		if _, err := ask(); err != nil {
			break
		}
	}
	require.LessOrEqual(t, refused, maxRefused)
	closed(t, conn)
}

// turns admits each so manieth request.
type turns struct {
	every int64
	n     atomic.Int64
	never atomic.Bool
}

func (a *turns) Admit(context.Context, string) error {
	if a.never.Load() || a.n.Add(1)%a.every != 0 {
		return refusal.New(refusal.RateLimited, "Too many.", "retry_after_ms", "1000")
	}
	return nil
}
