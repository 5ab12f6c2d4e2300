package stream_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
)

// protocols are those in which a stream over HTTP/2 is parked.
var protocols = map[string][]connect.ClientOption{
	"connect": nil, "connect json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()},
}

// open opens alice's stream over HTTP/2 without waiting for anything.
func (d *direct) open(ctx context.Context, opts ...connect.ClientOption) *connect.ServerStreamForClient[parleyv1.SubscribeResponse] {
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &only}
	d.t.Cleanup(transport.CloseIdleConnections)
	client := parleyv1connect.NewSyncServiceClient(&http.Client{Transport: asAlice{transport}}, "http://"+d.addr, opts...)
	st, err := client.Subscribe(ctx, &parleyv1.SubscribeRequest{})
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = st.Close() })
	return st
}

func TestHeldStreamDelivers(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			d := newDirect(t, stream.Config{})
			st := d.open(t.Context(), opts...)
			d.waitParked()
			var want []string
			for i := range 300 {
				want = append(want, fmt.Sprint("m", i))
				d.send(d.id, "bob", "d", want[i])
				if i%100 == 50 {
					d.waitParked()
				}
			}
			require.Equal(t, want, texts(t, st, len(want)))
			other := uuid.New()
			d.join(other, "alice")
			d.send(other, "bob", "d", "elsewhere")
			require.Equal(t, []string{"elsewhere"}, texts(t, st, 1))
			d.kick(other, "alice")
			d.send(other, "bob", "d", "not for alice")
			d.send(d.id, "bob", "d", "after")
			require.Equal(t, []string{"after"}, texts(t, st, 1))
		})
	}
}

func TestHeldStreamSaysWhyItEnds(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			d := newDirect(t, stream.Config{})
			st := d.open(t.Context(), opts...)
			d.waitParked()
			d.mgr.EndDevice("alice", "d", refusal.DeviceRevoked)
			for st.Receive() {
				continue
			}
			require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(st.Err()), "%v", st.Err())
			var ce *connect.Error
			require.ErrorAs(t, st.Err(), &ce)
			require.Len(t, ce.Details(), 1)
			detail, err := ce.Details()[0].Value()
			require.NoError(t, err)
			said, _ := detail.(*parleyv1.ErrorDetail)
			require.Equal(t, parleyv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED, said.GetReason())
			require.Eventually(t, func() bool { return d.mgr.Streams() == 0 }, 2*time.Minute, time.Millisecond)
		})
	}
}

func TestHeldStreamBeats(t *testing.T) {
	d := newDirect(t, stream.Config{Heartbeat: 30 * time.Millisecond})
	st := d.open(t.Context())
	for beats := 0; beats < 3; {
		require.True(t, st.Receive(), "%v", st.Err())
		for _, ev := range st.Msg().GetEvents() {
			if ev.GetHeartbeat() != nil {
				beats++
			}
		}
	}
}

func TestHeldStreamEndsWithItsPeer(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			d := newDirect(t, stream.Config{})
			ctx, cancel := context.WithCancel(t.Context())
			d.open(ctx, opts...)
			d.waitParked()
			cancel()
			require.Eventually(t, func() bool { return d.mgr.Streams() == 0 }, 2*time.Minute, time.Millisecond)
		})
	}
}

// A call with a deadline of the client's own ends with it: the layers that look after the deadline are not left.
func TestStreamWithADeadlineIsNotHeld(t *testing.T) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			d := newDirect(t, stream.Config{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			st := d.open(ctx, opts...)
			d.send(d.id, "bob", "d", "hello")
			require.Equal(t, []string{"hello"}, texts(t, st, 1))
			require.Zero(t, d.mgr.Parked())
		})
	}
}

// A peer that reads nothing is let go, and its stream holds no more than its bounds meanwhile.
func TestHeldStreamLetsDeadPeerGo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the write deadline of 5 s")
	}
	d := newDirect(t, stream.Config{})
	d.open(t.Context())
	d.waitParked()
	pad := strings.Repeat("x", 15_000)
	for range 1500 { // more than the client's windows
		d.send(d.id, "bob", "d", pad)
	}
	require.LessOrEqual(t, d.mgr.QueueBytes(), int64(stream.MaxQueueBytes))
	require.Eventually(t, func() bool { return d.mgr.Streams() == 0 }, time.Minute, 10*time.Millisecond)
	require.Zero(t, d.mgr.QueueBytes())
}
