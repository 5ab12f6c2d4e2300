package rpc

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

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

// elsewhere is an address that honest users do not have.
var elsewhere = net.IPv4(127, 0, 0, 2)

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
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+20 }, time.Minute, 20*time.Millisecond,
		"goroutines stay")
}

// Who opens and resets streams as fast as they can loses the connection soon, and gets no other for a while; those who have
// one keep it, and others are served meanwhile.
func TestRapidReset(t *testing.T) {
	reg := prometheus.NewRegistry()
	conns := unhurried(NewConns(0, 0, nil, reg))
	addr := guarded(t, (&fakes{send: sent}).config(t), conns)
	honest(t, addr)
	before := runtime.NumGoroutine()
	neighbour := rawOver(t, tryDial(t, elsewhere, addr))
	r := rawOver(t, tryDial(t, elsewhere, addr))
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
	conns.penalties.mu.Lock()
	punishment, known := conns.penalties.list.Peek(elsewhere.String())
	conns.penalties.list.Add(elsewhere.String(), penalty{begun: realNow(), length: time.Hour}) // it may be over by now on a busy machine
	conns.penalties.mu.Unlock()
	require.True(t, known)
	require.Equal(t, firstPenalty, punishment.length)
	if conn := tryDial(t, elsewhere, addr); conn != nil {
		closed(t, conn)
	}
	var refused dto.Metric
	require.NoError(t, conns.refused.WithLabelValues("abuse").Write(&refused))
	require.InDelta(t, 1, refused.GetCounter().GetValue(), 0)
	require.NoError(t, neighbour.WritePing(false, [8]byte{1}))
	require.NoError(t, neighbour.SetReadDeadline(time.Now().Add(time.Minute)))
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
	conns := unhurried(NewConns(0, 0, nil, nil))
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
	require.Eventually(t, func() bool { return conns.Open() == 0 }, time.Minute, time.Millisecond)
	require.False(t, conns.penalties.punished("127.0.0.1", realNow()))
}

// Headers that never end do not fill the memory: the server closes the connection.
func TestContinuationFlood(t *testing.T) {
	addr := guarded(t, (&fakes{send: sent}).config(t), unhurried(NewConns(0, 0, nil, nil)))
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

// A frame that is announced as larger than allowed ends the connection before it comes.
func TestHugeFrame(t *testing.T) {
	addr := guarded(t, (&fakes{send: sent}).config(t), unhurried(NewConns(0, 0, nil, nil)))
	r := newRaw(t, addr)
	frame := binary.BigEndian.AppendUint32(nil, 1<<24-1)[1:]
	_, err := r.Conn.Write(append(frame, 0, 0, 0, 0, 0, 1))
	require.NoError(t, err)
	closed(t, r.Conn)
	honest(t, addr)
}
