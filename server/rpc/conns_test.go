package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/parley-im/parley/server/refusal"
)

// An address gets as many connections as it may have, exactly, and one more for each that it closes. A stream that was taken
// from net/http counts until it ends.
func TestConnectionsOfAnAddress(t *testing.T) {
	reg := prometheus.NewRegistry()
	conns := unhurried(NewConns(0, 3, nil, reg))
	addr := guarded(t, (&fakes{send: sent}).config(t), conns)
	works := func(conn net.Conn) bool {
		if conn == nil {
			return false
		}
		_, err := fmt.Fprintf(conn, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
		if err != nil {
			return false
		}
		var b [12]byte
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		n, err := io.ReadFull(conn, b[:])
		return err == nil && string(b[:n]) == "HTTP/1.1 404"
	}
	var open []net.Conn
	for range 3 {
		conn := dial(t, addr)
		require.True(t, works(conn))
		open = append(open, conn)
	}
	require.False(t, works(tryDial(t, nil, addr)), "one too many")
	require.EqualValues(t, 3, conns.Open())
	families, err := reg.Gather()
	require.NoError(t, err)
	names := make([]string, 0, len(families))
	for _, f := range families {
		names = append(names, f.GetName())
	}
	require.Equal(t, []string{"parley_connections", "parley_connections_refused_total"}, names)
	open[0].Close()
	require.Eventually(t, func() bool { return conns.Open() == 2 }, time.Minute, time.Millisecond)
	require.True(t, works(dial(t, addr)))

	proxies, err := ParseProxies([]string{"127.0.0.1"})
	require.NoError(t, err)
	conns = unhurried(NewConns(5, 3, proxies, nil))
	addr = guarded(t, (&fakes{send: sent}).config(t), conns)
	for range 5 {
		require.True(t, works(dial(t, addr)), "proxies are bounded in all only")
	}
	require.False(t, works(tryDial(t, nil, addr)))
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
	conns.idle = 200 * time.Millisecond
	conns.Watch(srv)
	go srv.Serve(conns.Listen(ln)) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })
	var conn net.Conn
	for conn == nil { // a connection that says nothing in time, as on a busy machine, is idle
		client := dial(t, ln.Addr().String())
		_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		ended := make(chan struct{})
		go func() { closedQuietly(client); close(ended) }()
		select {
		case conn = <-taken:
		case <-ended:
		}
	}
	time.Sleep(3 * conns.idle) // it is no idle connection
	require.Eventually(t, func() bool { return conns.Open() == 1 }, time.Minute, time.Millisecond)
	require.NoError(t, conn.Close())
	require.Error(t, conn.Close())
	require.EqualValues(t, 0, conns.Open(), "closed twice, counted once")
}

// Who was never let in may not keep a connection, over HTTP/1.1 and HTTP/2; who was may.
func TestStrangersMayNotIdle(t *testing.T) {
	conns := NewConns(0, 0, nil, nil)
	conns.idle = time.Second
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
		require.Eventually(t, func() bool { // who has not yet said who they are is a stranger, for so long too on a busy machine
			status, _, err := tryAsAlice(t, client, "http://"+addr+sendPath, goodSend)
			return err == nil && status == http.StatusOK
		}, time.Minute, time.Millisecond)
		require.Eventually(t, func() bool { return conns.Open() == 1 }, time.Minute, time.Millisecond)
		time.Sleep(3 * conns.idle)
		require.EqualValues(t, 1, conns.Open(), "a known device keeps its connection")
		requireServed(t, client, addr)
		client.CloseIdleConnections()
		require.Eventually(t, func() bool { return conns.Open() == 0 }, time.Minute, time.Millisecond)
	}
}

// Connections that begin and do not go on are closed in their time, however many, and hold nobody up.
func TestSlowBeginners(t *testing.T) {
	conns := NewConns(0, 0, nil, nil)
	conns.idle = 3 * time.Second // more than an honest call needs to begin on a busy machine
	addr := guarded(t, (&fakes{send: sent}).config(t), conns)
	honest := func() {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		// Whose call has not come by then, on a busy machine, is a slow beginner like the others.
		require.Eventually(t, func() bool {
			status, _, err := tryAsAlice(t, client, "http://"+addr+sendPath, goodSend)
			return err == nil && status == http.StatusOK
		}, time.Minute, time.Millisecond)
	}
	honest()
	before := runtime.NumGoroutine()
	starts := []string{"", "P", "PRI * HTTP/2.0\r\n\r\nSM", http2.ClientPreface, "POST /x HTTP/1.1\r\nHost: x\r\nX-A: "}
	var open []net.Conn
	for i := range 200 {
		conn := dial(t, addr)
		_, _ = io.WriteString(conn, starts[i%len(starts)]) // its time may be over already
		open = append(open, conn)
	}
	honest()
	for _, conn := range open {
		closed(t, conn)
	}
	honest()
	settled(t, before)
}

// Who goes on although most is refused loses the connection, also if some of it passes and if they come by a new connection
// each time; who is let in as often as not keeps it.
func TestDeafConnection(t *testing.T) {
	cfg := (&fakes{send: sent}).config(t)
	turn := &turns{}
	cfg.Addresses = turn
	conns := NewConns(0, 0, nil, nil)
	unhurried(conns)
	addr := guarded(t, cfg, conns)
	// over asks over conn until it ends, at most times times, and returns how often it was answered.
	over := func(conn net.Conn, every int64, times int) (answered int) {
		turn.every.Store(every)
		answers := bufio.NewReader(conn)
		for ; answered < times; answered++ {
			if _, err := fmt.Fprintf(conn, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				break
			}
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				break
			}
			_, err = io.Copy(io.Discard, res.Body)
			if errors.Join(err, res.Body.Close()) != nil {
				break
			}
		}
		return answered
	}
	conn := dial(t, addr)
	require.Equal(t, 6*maxRefused, over(conn, 2, 6*maxRefused), "every second one passes")
	require.Less(t, over(conn, 10, 6*maxRefused), 2*maxRefused, "one of ten passes")
	closed(t, conn)
	list := func(fn func(p *penalty)) {
		conns.penalties.mu.Lock()
		defer conns.penalties.mu.Unlock()
		p, _ := conns.penalties.list.Peek("127.0.0.1")
		fn(&p)
		conns.penalties.list.Add("127.0.0.1", p)
	}
	require.Eventually(t, func() (punished bool) {
		list(func(p *penalty) { punished = p.length == firstPenalty })
		return punished
	}, time.Minute, time.Millisecond)

	list(func(p *penalty) { p.length = -1 }) // it is over, whatever the clock says
	answered := 0
	for range 9 {
		conn := dial(t, addr)
		answered += over(conn, 1<<40, maxRefused/8)
		conn.Close()
		require.Eventually(t, func() bool { return conns.Open() == 0 }, time.Minute, time.Millisecond)
	}
	require.Equal(t, maxRefused-1, answered, "over nine connections, each closed before it was refused too often by itself")
}

// turns admits each so manieth request.
type turns struct{ every, n atomic.Int64 }

func (a *turns) Admit(context.Context, string) error {
	if a.n.Add(1)%a.every.Load() != 0 {
		return refusal.New(refusal.RateLimited, "Too many.", "retry_after_ms", "1000")
	}
	return nil
}
