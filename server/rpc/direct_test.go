package rpc

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/wire"
)

// stuck is a connection whose peer does not read.
type stuck struct{ net.Conn }

func (stuck) SetWriteDeadline(time.Time) error { return nil }
func (stuck) Write([]byte) (int, error)        { return 0, os.ErrDeadlineExceeded }

// resetByPeer is a connection whose peer closed it with something unread, which resets it.
func resetByPeer(t *testing.T) net.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	peer, err := net.Dial("tcp", ln.Addr().String()) //nolint:noctx // at once
	require.NoError(t, err)
	conn, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = conn.Write([]byte("unread"))
	require.NoError(t, err)
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0)) //nolint:errcheck // it is one
	require.NoError(t, peer.Close())
	return conn
}

// A device that goes away, or stops reading, is an everyday thing: its stream ends as canceled, and nothing is logged that
// an operator would look at.
func TestHungUpCallerIsNoFault(t *testing.T) {
	closed, _ := net.Pipe()
	require.NoError(t, closed.Close())
	for name, conn := range map[string]net.Conn{"reset": resetByPeer(t), "closed": closed, "does not read": stuck{closed}} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			obs := newObserver(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), nil)
			s := &directSink{conn: conn, codec: wire.Proto,
				call: &call{obs: obs, procedure: parleyv1connect.SyncServiceSubscribeProcedure, stream: true}}
			if sc, ok := conn.(syscall.Conn); ok {
				var err error
				s.raw, err = sc.SyscallConn()
				require.NoError(t, err)
			}
			s.write = s.writeOnce

			f := wire.NewFrame(wire.Proto)
			f.Event(&parleyv1.Event{Kind: &parleyv1.Event_Heartbeat{Heartbeat: &parleyv1.Heartbeat{}}})
			var err error
			// The kernel may take what it will never get rid of until it knows that the peer is gone.
			require.Eventually(t, func() bool { err = s.Send(f); return err != nil }, time.Minute, time.Millisecond)
			s.End(fmt.Errorf("write to stream: %w", err))

			require.Contains(t, log.String(), "level=DEBUG msg=call ")
			require.Contains(t, log.String(), "code=canceled reason=CALL_ENDED")
			for _, level := range []string{"INFO", "WARN", "ERROR"} {
				require.NotContains(t, log.String(), "level="+level)
			}
		})
	}
}
