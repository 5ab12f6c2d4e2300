package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley/bench/check"
	"github.com/parley-im/parley/bench/latency"
	"github.com/parley-im/parley/bench/load"
	"github.com/parley-im/parley/bench/report"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// fleet is devices that are online, each on a connection of its own.
type fleet struct {
	b       *Bench
	devices []*check.Device
	streams []*load.Stream
	rec     *latency.Recorder
	counts  [16]count
	sent    atomic.Int64  // messages that were made for each device
	caught  chan struct{} // one for each device that has caught up
	failed  chan error    // why the first stream ended that was not closed
}

// count is a part of the entries received, on a cache line of its own.
type count struct {
	atomic.Int64
	_ [56]byte
}

// opening is how a device of a fleet starts.
type opening struct {
	token   string
	cursors []*parleyv1.Cursor
}

// connectors is how many devices connect at the same time.
const connectors = 32

// online connects n devices to addr and waits until all have caught up.
func (b *Bench) online(ctx context.Context, addr string, n int, http2 bool, open func(i int) opening) (f *fleet, err error) {
	f = &fleet{b: b, devices: make([]*check.Device, n), streams: make([]*load.Stream, n), rec: latency.NewRecorder(), caught: make(chan struct{}, n),
		failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	err = b.each(ctx, n, connectors, func(ctx context.Context, _ *load.Caller, i int) error {
		o := open(i)
		d := f.device(i)
		for _, c := range o.cursors {
			d.Start(c.GetSessionId(), c.GetSeq())
		}
		s, err := b.connect(ctx, load.Options{Addr: addr, Token: o.token, Index: i, HTTP2: http2}, &parleyv1.SubscribeRequest{Cursors: o.cursors}, d)
		f.streams[i] = s
		return err
	})
	if err != nil {
		return f, fmt.Errorf("connect devices: %w", err)
	}
	patience := time.NewTimer(2 * time.Minute)
	defer patience.Stop()
	for range n {
		select {
		case <-f.caught:
		case err := <-f.failed:
			return f, fmt.Errorf("not all devices caught up: %w", err)
		case <-ctx.Done():
			return f, ctx.Err()
		case <-patience.C:
			return f, errors.New("not all devices caught up within 2 minutes")
		}
	}
	return f, b.calm(ctx)
}

// connectTries is how often a device tries to connect, connectPause how long it waits in between.
const (
	connectTries = 5
	connectPause = 200 * time.Millisecond
)

// connect opens a stream, and tries again where the connection was cut before there was any answer: connecting is not what
// is measured, and net/http gives a new HTTP/2 connection 2 s for its first frame, which a machine that others use too may
// not keep. What the server refuses is refused.
func (b *Bench) connect(ctx context.Context, o load.Options, req *parleyv1.SubscribeRequest, d load.Device) (s *load.Stream, err error) {
	for try := range connectTries {
		if try > 0 {
			b.say("device %d connects again: %v", o.Index, err)
			if err := pause(ctx, connectPause); err != nil {
				return nil, err
			}
		}
		s, err = b.open(ctx, o, req, d)
		var refused *load.RefusedError
		if err == nil || errors.As(err, &refused) {
			return s, err
		}
	}
	return nil, err
}

func (b *Bench) open(ctx context.Context, o load.Options, req *parleyv1.SubscribeRequest, d load.Device) (*load.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, load.CallTimeout)
	defer cancel()
	return load.Open(ctx, o, req, d)
}

const (
	// calmEvery is over what time calm looks at the processes, calmPart how much of one processor they may take, and
	// calmPatience how long it waits for that.
	calmEvery    = 500 * time.Millisecond
	calmPart     = 0.25
	calmPatience = 30 * time.Second
)

// calm waits until what connecting set off (devices that are noted, caches that fill) is over: it is not what is measured.
func (b *Bench) calm(ctx context.Context) error {
	from, err := b.times(b.stack.PIDs.Server)
	if err != nil {
		return err
	}
	for began := from.at; time.Since(began) < calmPatience; {
		if err := pause(ctx, calmEvery); err != nil {
			return err
		}
		to, err := b.times(b.stack.PIDs.Server)
		if err != nil {
			return err
		}
		took := to.server - from.server + to.postgres - from.postgres
		if took.Seconds() < calmPart*to.at.Sub(from.at).Seconds() {
			return nil
		}
		from = to
	}
	b.say("the server is still busy %s after the devices connected", calmPatience)
	return nil
}

func (f *fleet) device(i int) *check.Device {
	d := &check.Device{}
	count := &f.counts[i%len(f.counts)]
	d.Observe = func(body []byte) {
		count.Add(1)
		if at, ok := latency.Stamp(body); ok {
			f.rec.Record(i, time.Since(at), 1)
		}
	}
	d.OnCaughtUp = func() { f.caught <- struct{}{} }
	d.OnFailed = func(err error) {
		select {
		case f.failed <- fmt.Errorf("device %d: %w", i, err):
		default:
		}
	}
	f.devices[i] = d
	return d
}

// received is how many entries all devices have got.
func (f *fleet) received() (n int64) {
	for i := range f.counts {
		n += f.counts[i].Load()
	}
	return n
}

// bytes is how many bytes of streams all devices have got, and frames in how many responses.
func (f *fleet) bytes() (bytes, frames int64) {
	for _, s := range f.streams {
		bytes += s.Bytes()
		frames += s.Frames()
	}
	return bytes, frames
}

func (f *fleet) close() {
	var all sync.WaitGroup
	for i := range connectors {
		all.Go(func() {
			for at := i; at < len(f.streams); at += connectors {
				if s := f.streams[at]; s != nil {
					s.Close()
				}
			}
		})
	}
	all.Wait()
}

// patience is how long the last entries may take after the last send.
const patience = 60 * time.Second

// settle waits until device i has its session up to its head, for all devices, and proves that nothing is missing.
func (f *fleet) settle(ctx context.Context, of func(i int) (session string, head int64), r *report.Result) error {
	deadline := time.Now().Add(patience)
	for i, d := range f.devices {
		session, head := of(i)
		for !d.Reached(session, head) && time.Now().Before(deadline) {
			if err := pause(ctx, 2*time.Millisecond); err != nil {
				return err
			}
		}
	}
	for i, d := range f.devices {
		session, head := of(i)
		r.Missing += int64(d.Settle(session, head))
		n, said := d.Problems()
		if n > 0 && len(r.Problems) < maxSaid {
			r.Problems = append(r.Problems, fmt.Sprintf("device %d: %s", i, strings.Join(said, "; ")))
		}
	}
	return nil
}

// delivered is what a stretch of delivering came to.
type delivered struct {
	rate    float64 // deliveries per second
	latency latency.Summary
	cpu     report.CPU
	count   int64
	perSend float64 // entries in a response, on the average
	bytes   float64 // of a delivery on the wire, HTTP's framing included
}

// measure waits out the warm-up and then counts what the fleet receives. server is the process that delivers.
func (f *fleet) measure(ctx context.Context, server int) (out delivered, err error) {
	if err := pause(ctx, f.b.cfg.Warmup); err != nil {
		return out, err
	}
	from, err := f.b.times(server)
	if err != nil {
		return out, err
	}
	bytes0, frames0 := f.bytes()
	f.rec.Begin()
	count0, at0 := f.received(), time.Now()
	if err := pause(ctx, f.b.cfg.Duration); err != nil {
		return out, err
	}
	count1, at1 := f.received(), time.Now()
	out.latency = f.rec.End()
	to, err := f.b.times(server)
	if err != nil {
		return out, err
	}
	bytes1, frames1 := f.bytes()
	out.count = count1 - count0
	out.rate = float64(out.count) / at1.Sub(at0).Seconds()
	out.cpu = per(from, to, out.count)
	out.perSend = float64(out.count) / float64(max(1, frames1-frames0))
	out.bytes = float64(bytes1-bytes0) / float64(max(1, out.count))
	return out, nil
}
