package stream_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// From the hub to the socket a delivery to a parked stream allocates nothing: what one message allocates is spread over
// all devices that get it, so that less than a tenth of an allocation is left for each of a hundred. So do many at once,
// though they are more than a frame: the writers' buffers take them in turns.
func TestADeliveryAllocatesNothing(t *testing.T) {
	t.Run("one", func(t *testing.T) { deliveriesAllocate(t, 1, 100) })
	t.Run("more than a frame", func(t *testing.T) { deliveriesAllocate(t, 900, 5) })
}

// deliveriesAllocate publishes so many entries at once, time and again.
func deliveriesAllocate(t *testing.T, burst, rounds int) {
	const streams = 100
	w := newWorldOf(t, stream.Config{Heartbeat: time.Hour}, stream.NewMetrics(prometheus.NewRegistry()))
	id := uuid.New()
	head := int64(0)
	for i := range streams {
		head = w.joinQuietly(id, fmt.Sprintf("u%d", i))
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	serveWorld(t, w, ln, prometheus.NewRegistry())
	for i := range streams {
		user := fmt.Sprintf("u%d", i)
		w.synced[user+"/d"] = true
		w.cursors[user+"/d"] = map[uuid.UUID]int64{id: head}
	}
	for i := range streams {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", ln.Addr().String())
		require.NoError(t, err)
		_, err = conn.Write(subscribeRequest(ln.Addr().String(), fmt.Sprintf("u%d", i)))
		require.NoError(t, err)
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, conn)
		}()
		t.Cleanup(func() {
			_ = conn.Close()
			<-read
		})
	}
	require.Eventually(t, func() bool { return w.mgr.Parked() == streams }, time.Minute, time.Millisecond)

	body := w.logs[id][0].Body
	var entries []*wire.Entry // made beforehand
	for i := range (rounds + 10) * burst {
		entries = append(entries, wire.Encode(message.Entry{SessionID: id, Seq: head + int64(i) + 1, MessageID: uuid.New(),
			SenderID: "x", Type: message.TypeText, Body: body, CreatedAt: time.Unix(1_700_000_000, 0)}))
	}
	size := burst * entries[0].Size()
	require.Equal(t, burst > 1, size > stream.MaxFrame, "it waits as %d bytes", size)
	before := w.mgr.Written()
	published := 0
	deliver := func() {
		w.hub.Publish(entries[published : published+burst])
		published += burst
		for w.mgr.Parked() != streams {
			runtime.Gosched()
		}
	}
	for range 9 { // queues and buffers come to be
		deliver()
	}
	perRound := testing.AllocsPerRun(rounds, deliver)
	require.EqualValues(t, published*streams, w.mgr.Written()-before, "entries that were written")
	t.Logf("%.0f allocations for %d messages to %d devices", perRound, burst, streams)
	most := 0.1
	if raceDetector {
		most = 2 // it makes sync.Pool forget a quarter of what is put back
	}
	if burst > 1 {
		most += 2 // a connection whose reader is late fills up, and then its stream takes a goroutine
	}
	require.Less(t, perRound/streams, most, "allocations for each device")
}
