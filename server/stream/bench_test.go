package stream_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// counter is a sink that counts bytes and decodes nothing, so that what is measured is the server's part.
type counter struct {
	frames, bytes *atomic.Int64
	codec         wire.Codec
}

func (c counter) Codec() wire.Codec { return c.codec }

func (c counter) Send(f *wire.Frame) error {
	c.bytes.Add(int64(f.Len()))
	c.frames.Add(1)
	return nil
}

// BenchmarkFanOut publishes entries to n streams and stops the clock when every stream has written them all.
func BenchmarkFanOut(b *testing.B) {
	for _, codec := range []wire.Codec{wire.Proto, wire.JSON} {
		for _, n := range []int{1, 100, 1000} {
			for _, burst := range []int{1, 16} {
				b.Run(fmt.Sprintf("codec=%d/streams=%d/burst=%d", codec, n, burst), func(b *testing.B) { fanOut(b, codec, n, burst) })
			}
		}
	}
}

func fanOut(b *testing.B, codec wire.Codec, n, burst int) {
	w := newWorld(b, stream.Config{})
	id := uuid.New()
	for i := range n {
		w.join(id, fmt.Sprintf("u%d", i))
	}
	var frames, written atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	for i := range n {
		user := fmt.Sprintf("u%d", i)
		w.synced[user+"/d"] = true
		w.cursors[user+"/d"] = map[uuid.UUID]int64{id: int64(n)}
		wg.Go(func() {
			_ = w.mgr.Serve(ctx, stream.Caller{UserID: user, DeviceID: "d"}, stream.Request{}, counter{&frames, &written, codec})
		})
	}
	for frames.Load() < 2*int64(n) { // Opened and CaughtUp
		runtime.Gosched()
	}
	w.mgr.AwaitIdle()
	body := w.logs[id][0].Body
	seq := int64(n)
	b.ReportAllocs()
	b.ResetTimer()
	delivered := 0
	for b.Loop() {
		entries := make([]*wire.Entry, burst)
		for i := range entries {
			seq++
			entries[i] = wire.Encode(message.Entry{SessionID: id, Seq: seq, MessageID: uuid.New(), SenderID: "x", Type: message.TypeText, Body: body})
		}
		w.hub.Publish(entries)
		delivered += burst * n
		w.mgr.AwaitIdle()
	}
	b.StopTimer()
	b.ReportMetric(float64(delivered)/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(delivered), "ns/delivery")
}
