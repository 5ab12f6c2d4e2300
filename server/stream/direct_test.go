package stream_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// direct is a world with one session and one user on the network.
type direct struct {
	*world
	t    *testing.T
	id   uuid.UUID
	addr string
}

func newDirect(t *testing.T, cfg stream.Config) *direct {
	w := newWorld(t, cfg)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serveWorld(t, w, ln, prometheus.NewRegistry())
	d := &direct{world: w, t: t, id: uuid.New(), addr: ln.Addr().String()}
	d.join(d.id, "alice")
	return d
}

// subscribe opens alice's stream with connect's own client over a connection of its own, and waits until it is parked.
func (d *direct) subscribe(opts ...connect.ClientOption) *connect.ServerStreamForClient[parleyv1.SubscribeResponse] {
	transport := &http.Transport{}
	d.t.Cleanup(transport.CloseIdleConnections)
	client := parleyv1connect.NewSyncServiceClient(&http.Client{Transport: asAlice{transport}}, "http://"+d.addr, opts...)
	st, err := client.Subscribe(d.t.Context(), &parleyv1.SubscribeRequest{})
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = st.Close() })
	d.waitParked()
	return st
}

type asAlice struct{ http.RoundTripper }

func (a asAlice) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer alice")
	return a.RoundTripper.RoundTrip(r)
}

func (d *direct) waitParked() {
	require.Eventually(d.t, func() bool { return d.mgr.Parked() == 1 }, time.Minute, time.Millisecond)
}

// texts reads until n texts have come.
func texts(t *testing.T, st *connect.ServerStreamForClient[parleyv1.SubscribeResponse], n int) (out []string) {
	for len(out) < n {
		require.True(t, st.Receive(), "%v", st.Err())
		for _, ev := range st.Msg().GetEvents() {
			if m := ev.GetMessage(); m.GetType() == parleyv1.MessageType_MESSAGE_TYPE_TEXT {
				out = append(out, m.GetContent().GetText().GetBody())
			}
		}
	}
	return out
}

func TestParkedStreamDelivers(t *testing.T) {
	for name, opts := range map[string][]connect.ClientOption{"proto": nil, "json": {connect.WithProtoJSON()}} {
		t.Run(name, func(t *testing.T) {
			d := newDirect(t, stream.Config{})
			st := d.subscribe(opts...)
			var want []string
			for i := range 500 {
				want = append(want, fmt.Sprint("m", i))
				d.send(d.id, "bob", "d", want[i])
				if i%100 == 50 {
					d.waitParked()
				}
			}
			require.Equal(t, want, texts(t, st, len(want)))
			// What is missed is pulled, which takes a goroutine for as long as that takes.
			d.silent = true
			d.send(d.id, "bob", "d", "missed")
			d.silent = false
			d.send(d.id, "bob", "d", "seen")
			require.Equal(t, []string{"missed", "seen"}, texts(t, st, 2))
			d.waitParked()
			// A session joined while the stream is parked is read and told.
			other := uuid.New()
			d.join(other, "alice")
			d.send(other, "bob", "d", "elsewhere")
			require.Equal(t, []string{"elsewhere"}, texts(t, st, 1))
			// The cut holds: nothing comes after it.
			d.kick(other, "alice")
			d.send(other, "bob", "d", "not for alice")
			d.send(d.id, "bob", "d", "after")
			require.Equal(t, []string{"after"}, texts(t, st, 1))
		})
	}
}

// A parked stream that has much to send gets it in turns with others: frames of a bounded size, in order, and what the user
// is told beside the log comes behind what waited before it.
func TestParkedStreamSendsInTurns(t *testing.T) {
	d := newDirect(t, stream.Config{})
	conn := d.raw(t.Context())
	body := readHead(t, conn)
	d.waitParked()
	const n = 100
	pad := strings.Repeat("x", 2000)
	d.silent = true
	for i := range n {
		d.send(d.id, "bob", "d", fmt.Sprintf("<%d>%s", i, pad))
	}
	d.silent = false
	var all []*wire.Entry
	for _, e := range d.logs[d.id][1:] {
		all = append(all, wire.Encode(e))
	}
	d.hub.Publish(all) // in one go: more than three frames would hold, less than makes a stream fall behind
	d.hub.NotifyUser("alice", "", &parleyv1.Event{Kind: &parleyv1.Event_State{State: &parleyv1.StateEvent{SessionId: d.id.String(), ReadSeq: n}}})

	next, frames := 0, 0
	for state := false; !state; frames++ {
		var head [5]byte
		_, err := io.ReadFull(body, head[:])
		require.NoError(t, err)
		message := make([]byte, binary.BigEndian.Uint32(head[1:]))
		_, err = io.ReadFull(body, message)
		require.NoError(t, err)
		require.Less(t, len(message), stream.MaxFrame+all[0].Size()+200, "a frame, what it began with last, and the event")
		var res parleyv1.SubscribeResponse
		require.NoError(t, proto.Unmarshal(message, &res))
		for _, ev := range res.GetEvents() {
			if text := ev.GetMessage().GetContent().GetText().GetBody(); text != "" {
				require.Equal(t, fmt.Sprintf("<%d>%s", next, pad), text)
				next++
			}
			state = state || ev.GetState() != nil
		}
	}
	require.Equal(t, n, next, "what the user is told comes behind what waited")
	require.GreaterOrEqual(t, frames, n*len(pad)/stream.MaxFrame)
	d.waitParked()
}

func TestParkedStreamSaysWhyItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(d *direct)
		code connect.Code
		why  parleyv1.ErrorReason
	}{
		"revoked": {func(d *direct) { d.mgr.EndDevice("alice", "d", refusal.DeviceRevoked) },
			connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED},
		"displaced": {func(d *direct) { d.subscribe() }, connect.CodeFailedPrecondition, parleyv1.ErrorReason_ERROR_REASON_STREAM_DISPLACED},
		"drained": {func(d *direct) { require.NoError(d.t, d.mgr.Drain(d.t.Context())) },
			connect.CodeUnavailable, parleyv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirect(t, stream.Config{})
			st := d.subscribe()
			c.end(d)
			for st.Receive() {
				continue
			}
			require.Equal(t, c.code, connect.CodeOf(st.Err()), "%v", st.Err())
			var ce *connect.Error
			require.ErrorAs(t, st.Err(), &ce)
			if c.code == connect.CodeUnavailable { // and when to come back
				require.Len(t, ce.Details(), 2)
				require.Equal(t, "google.rpc.RetryInfo", ce.Details()[1].Type())
			} else {
				require.Len(t, ce.Details(), 1)
			}
			detail, err := ce.Details()[0].Value()
			require.NoError(t, err)
			require.Equal(t, c.why, detail.(*parleyv1.ErrorDetail).GetReason()) //nolint:forcetypeassert,errcheck // a failed test either way
		})
	}
}

func TestParkedStreamBeats(t *testing.T) {
	d := newDirect(t, stream.Config{Heartbeat: 30 * time.Millisecond})
	st := d.subscribe()
	for beats := 0; beats < 3; {
		require.True(t, st.Receive(), "%v", st.Err())
		for _, ev := range st.Msg().GetEvents() {
			if ev.GetHeartbeat() != nil {
				beats++
			}
		}
	}
}

func TestParkedStreamEndsWithItsPeer(t *testing.T) {
	d := newDirect(t, stream.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	conn := d.raw(ctx)
	d.waitParked()
	require.NoError(t, conn.Close())
	cancel()
	require.Eventually(t, func() bool { return d.mgr.Streams() == 0 }, time.Minute, time.Millisecond)
}

// raw opens alice's stream on a bare connection.
func (d *direct) raw(ctx context.Context) net.Conn {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/connect+proto\r\n"+
		"Authorization: Bearer alice\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00", parleyv1connect.SyncServiceSubscribeProcedure)
	require.NoError(d.t, err)
	return conn
}

// A peer that does not read for a while, until its connection is full, finds everything in order and in whole chunks when
// it reads again.
func TestParkedStreamWaitsForSlowPeer(t *testing.T) {
	// On a busy machine it may read so late, or so slowly, that it is let go, as it should be: then again.
	for try := 1; !slowPeerReads(t); try++ {
		require.Less(t, try, 10, "it is let go each time")
	}
}

// slowPeerReads returns false if the peer was let go before it had read everything.
func slowPeerReads(t *testing.T) bool {
	t.Helper()
	d := newDirect(t, stream.Config{})
	conn := d.raw(t.Context())
	d.waitParked()
	const n = 1500 // more than the kernel's buffers and the queue hold
	pad := strings.Repeat("x", 15_000)
	for i := range n {
		d.send(d.id, "bob", "d", fmt.Sprintf("<%d>%s", i, pad))
	}
	require.Zero(t, d.mgr.Parked(), "the connection took everything: the test proves nothing")
	body := readHead(t, conn)
	last := fmt.Appendf(nil, "<%d>%s", n-1, pad)
	var all []byte
	buf := make([]byte, 64<<10)
	for checked := 0; !bytes.Contains(all[checked:], last); {
		checked = max(0, len(all)-len(last))
		k, err := body.Read(buf)
		if err != nil && d.mgr.Streams() == 0 {
			return false
		}
		require.NoError(t, err)
		all = append(all, buf[:k]...)
	}
	at := 0
	for i := range n {
		next := bytes.Index(all[at:], fmt.Appendf(nil, "<%d>%s", i, pad))
		require.GreaterOrEqual(t, next, 0, "entry %d is missing or out of order", i)
		at += next + len(pad)
	}
	d.waitParked()
	return true
}

// readHead reads an answer's head and returns its body.
func readHead(t *testing.T, conn net.Conn) io.Reader {
	var head []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		_, err := io.ReadFull(conn, one)
		require.NoError(t, err)
		head = append(head, one...)
	}
	return httputil.NewChunkedReader(conn)
}

// A peer that reads nothing is let go within 10 seconds.
func TestParkedStreamLetsDeadPeerGo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the write deadline of 5 s")
	}
	d := newDirect(t, stream.Config{})
	d.raw(t.Context())
	d.waitParked()
	pad := strings.Repeat("x", 15_000)
	for range 1000 {
		d.send(d.id, "bob", "d", pad)
	}
	require.LessOrEqual(t, d.mgr.QueueBytes(), int64(stream.MaxQueueBytes))
	require.Eventually(t, func() bool { return d.mgr.Streams() == 0 }, 2*time.Minute, 10*time.Millisecond)
	require.Zero(t, d.mgr.QueueBytes())
}
