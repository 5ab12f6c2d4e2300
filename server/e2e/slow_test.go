package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// stall opens a stream over a raw HTTP/1.1 connection with a small receive buffer and, after its head, stops reading;
// pace, when positive, is how long it waits between single bytes. The returned channel closes once the server has ended
// the connection.
func stall(t *testing.T, s *rig.Server, user, device string, pace time.Duration) <-chan struct{} {
	addr := strings.TrimPrefix(s.URL, "http://")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	require.NoError(t, tcp.SetReadBuffer(4096))
	_, err = fmt.Fprintf(conn, "GET /v1/subscribe HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", addr, s.Token(user, device))
	require.NoError(t, err)
	head := make([]byte, 64)
	_, err = io.ReadFull(conn, head)
	require.NoError(t, err)
	require.Contains(t, string(head), "200")
	ended := make(chan struct{})
	if pace == 0 {
		return nil // it reads no more; the server's own count tells when it is gone
	}
	go func() {
		defer close(ended)
		one := make([]byte, 1)
		for {
			if _, err := conn.Read(one); err != nil {
				return
			}
			time.Sleep(pace)
		}
	}()
	return ended
}

// A12 in short form: devices that stop reading, or read a byte at a time, cost the others nothing, are let go, and lose
// nothing: they find everything when they come back.
func TestSlowReadersCostOthersNothing(t *testing.T) {
	const users, stalled = 20, 6
	s := rig.Start(t)
	sender := s.NewDevice("sender", "d")
	var names []string
	for u := range users {
		names = append(names, fmt.Sprintf("u%02d", u))
		s.Token(names[u], "d")
	}
	id := sender.Group(t.Context(), names...)
	var fast []*rig.Device
	for u := stalled; u < users; u++ {
		opts := []connect.ClientOption{}
		if u%2 == 0 {
			opts = append(opts, rig.H2)
		}
		fast = append(fast, s.Online(names[u], "d", opts...))
	}
	for u := range stalled {
		pace := time.Duration(0)
		if u%3 == 2 {
			pace = 100 * time.Millisecond
		}
		stall(t, s, names[u], "d", pace)
	}
	slowH2 := s.Client("u00", "h2", rig.H2) // an HTTP/2 stream that nobody reads
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := slowH2.Sync.Subscribe(ctx, &parleyv1.SubscribeRequest{})
	require.NoError(t, err)
	defer func() { cancel(); _ = stream.Close() }()
	live := float64(len(fast) + stalled + 1)
	require.Eventually(t, func() bool { return s.Metric("parley_streams") == live }, 10*time.Second, 20*time.Millisecond)

	// More than all the buffers of kernel and queue hold, so that each of the stalled is really blocked.
	body := strings.Repeat("x", 15_000)
	var last int64
	for range 400 {
		last = sender.Send(t.Context(), id, body).GetSeq()
		require.LessOrEqual(t, s.Metric("parley_stream_queue_bytes"), live*512*1024)
	}
	for _, d := range fast {
		d.WaitSeq(id, last)
		requireNoProblems(t, d)
		require.Len(t, d.Seqs(id), int(last))
	}
	// 5 s without progress end a write; a test gives it more.
	require.Eventually(t, func() bool { return s.Metric("parley_streams") <= float64(len(fast)) }, 40*time.Second, 200*time.Millisecond,
		"stalled streams are still there")
	back := s.Online(names[0], "d")
	back.WaitSeq(id, last)
	require.Equal(t, upTo(last), back.Seqs(id))
	requireNoProblems(t, back)
}
