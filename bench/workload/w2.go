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
	"github.com/parley-im/parley/bench/limit"
	"github.com/parley-im/parley/bench/load"
	"github.com/parley-im/parley/bench/report"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

const (
	// fanSenders send to the group of W2. They are not online, so that every device gets every message.
	fanSenders = 4
	// fanWindow is how many deliveries may be outstanding: enough that the server never waits for a sender, few enough that
	// it does not spend its time on messages whose turn to be delivered is far off.
	fanWindow = 256_000
	// fanBatch is the largest number of messages in one call.
	fanBatch = 64
)

// crowd is W2's part: one group whose members are online.
type crowd struct {
	b       *Bench
	senders []actor
	members []actor
	session string
	ledger  check.Ledger
}

// w2: one group of online devices, saturated and paced. The limit is a bare TCP server that writes the same bytes to as
// many sockets.
func (b *Bench) w2(ctx context.Context) error {
	for _, p := range b.cfg.Scale.Groups {
		if !b.cfg.wantsAny("W2", caseSaturated(p.Devices), casePaced(p)) {
			continue
		}
		if err := PrepareDescriptors(p.Devices + 500); err != nil {
			return err
		}
		c, err := b.newCrowd(ctx, p.Devices)
		if err != nil {
			return err
		}
		for run := range b.cfg.Runs {
			if err := c.run(ctx, run+1, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Bench) newCrowd(ctx context.Context, n int) (*crowd, error) {
	b.say("W2: making a group of %d", n)
	actors, err := b.actors(ctx, n+fanSenders)
	if err != nil {
		return nil, err
	}
	c := &crowd{b: b, senders: actors[:fanSenders], members: actors[fanSenders : fanSenders+crowdOf(n)]}
	caller := load.NewCaller(b.stack.Addr())
	defer caller.Close()
	id, head, err := group(ctx, caller, actors[0], append(actors[1:fanSenders:fanSenders], c.members...))
	if err != nil {
		return nil, err
	}
	c.session = id
	c.ledger.Start(id, head)
	return c, nil
}

// maxMembers is how many members a group may have.
const maxMembers = 10_000

// source makes one message for every device, count times, each with its stamp. It is called by one goroutine at a time for
// each who.
type source func(ctx context.Context, who, count int, stamp stamps) error

// stretches are what is measured while the crowd is online; nil is not wanted.
type stretches struct {
	saturated, paced *report.Result
	curve            []report.Result
	contention       bool
}

func (c *crowd) run(ctx context.Context, run int, p Paced) error {
	var w stretches
	if name := caseSaturated(p.Devices); c.b.cfg.wants("W2", name) {
		w.saturated = &report.Result{Workload: "W2", Case: name, Run: run, Unit: "deliveries/s"}
		w.contention = run == c.b.cfg.Runs
	}
	if name := casePaced(p); c.b.cfg.wants("W2", name) {
		w.paced = &report.Result{Workload: "W2", Case: name, Run: run}
	}
	if run == 1 && c.b.cfg.Curves && w.saturated != nil {
		for _, part := range parts {
			w.curve = append(w.curve, report.Result{Workload: "W2", Case: fmt.Sprintf("%d devices at %.0f %%", len(c.members), 100*part), Run: run,
				Unit: "deliveries/s"})
		}
	}
	if err := c.parley(ctx, p, w); err != nil {
		return err
	}
	if err := c.bare(ctx, p, w); err != nil {
		return err
	}
	if w.saturated != nil {
		c.b.add(*w.saturated, true)
	}
	if w.paced != nil {
		w.paced.Extra["deliveries_per_s"] = w.paced.Rate
		w.paced.ByLatency()
		c.b.add(*w.paced, true)
	}
	if len(w.curve) > 0 {
		line := report.Curve{Name: fmt.Sprintf("W2: %d devices", len(c.members)), Unit: "deliveries/s"}
		for i, r := range w.curve {
			c.b.add(r, false)
			line.Points = append(line.Points, report.Point{Offered: parts[i] * w.saturated.Rate, Rate: r.Rate, Latency: r.Latency})
		}
		c.b.report.Curves = append(c.b.report.Curves, line)
	}
	return nil
}

// parley measures the server.
func (c *crowd) parley(ctx context.Context, p Paced, w stretches) error {
	head := c.ledger.Head(c.session)
	f, err := c.b.online(ctx, c.b.stack.Addr(), len(c.members), false, func(i int) opening {
		return opening{token: c.members[i].token, cursors: []*parleyv1.Cursor{{SessionId: c.session, Seq: head}}}
	})
	if err != nil {
		return err
	}
	defer f.close()
	senders := make([]*sender, fanSenders)
	for i, a := range c.senders {
		senders[i] = newSender(a, c.b.stack.Addr(), &c.ledger, fanBatch)
		defer senders[i].caller.Close()
	}
	pick := func() string { return c.session }
	send := func(ctx context.Context, who, count int, stamp stamps) error {
		_, err := senders[who].send(ctx, count, stamp, pick)
		return err
	}
	measure := func(r *report.Result, perSec float64) error {
		if err := f.drive(ctx, drive{send: send, senders: fanSenders, batch: fanBatch, perSec: perSec, server: c.b.stack.PIDs.Server}, r); err != nil {
			return err
		}
		head := c.ledger.Head(c.session)
		if wrong, said := c.ledger.Settle(); wrong > 0 {
			r.Failed += int64(wrong)
			r.Problems = append(r.Problems, strings.Join(said, "; "))
		}
		return f.settle(ctx, func(int) (string, int64) { return c.session, head }, r)
	}
	if w.saturated != nil {
		if err := measure(w.saturated, 0); err != nil {
			return err
		}
	}
	if w.paced != nil {
		if err := measure(w.paced, p.PerSec); err != nil {
			return err
		}
	}
	for i := range w.curve {
		if err := measure(&w.curve[i], parts[i]*w.saturated.Rate/float64(len(c.members))); err != nil {
			return err
		}
	}
	if !w.contention {
		return nil
	}
	return c.b.contention(ctx, "W2", w.saturated.Case, func() error {
		var r report.Result
		err := measure(&r, 0)
		w.saturated.Failed += r.Failed
		w.saturated.Missing += r.Missing
		w.saturated.Problems = append(w.saturated.Problems, r.Problems...)
		return err
	})
}

// bare measures the limit.
func (c *crowd) bare(ctx context.Context, p Paced, w stretches) error {
	return c.b.bareFan(ctx, len(c.members), func(f *fleet, send source, pid int) error {
		head := func(int) (string, int64) { return limit.FanSession, f.sent.Load() }
		if w.saturated != nil {
			if err := f.drive(ctx, drive{send: send, senders: 1, batch: fanBatch, server: pid, bare: true}, w.saturated); err != nil {
				return err
			}
			if err := f.settle(ctx, head, w.saturated); err != nil {
				return err
			}
		}
		if w.paced == nil {
			return nil
		}
		if err := f.drive(ctx, drive{send: send, senders: 1, batch: 1, perSec: p.PerSec, server: pid, bare: true}, w.paced); err != nil {
			return err
		}
		return f.settle(ctx, head, w.paced)
	})
}

// bareFan starts the bare TCP server and n devices that read from it, and calls f.
func (b *Bench) bareFan(ctx context.Context, n int, measure func(f *fleet, send source, pid int) error) (err error) {
	server, err := limit.Start(ctx, []string{b.stack.Program(), limit.Command, limit.Fan})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	f, err := b.online(ctx, server.Addr, n, false, func(int) opening {
		return opening{cursors: []*parleyv1.Cursor{{SessionId: limit.FanSession}}}
	})
	if err != nil {
		return err
	}
	defer f.close()
	return measure(f, func(_ context.Context, _, count int, stamp stamps) error { return server.Write(count, stamp(0)) }, server.PID)
}

// drive says how messages are made: as many as the fleet takes, or perSec, each stamped with when it was due.
type drive struct {
	send    source
	senders int
	batch   int // the most in one call
	perSec  float64
	server  int  // the process that delivers
	bare    bool // it is the bare server: the figures are a limit
}

// drive makes messages and measures their deliveries.
func (f *fleet) drive(ctx context.Context, d drive, r *report.Result) error {
	var fail failures
	var stop atomic.Bool
	var running sync.WaitGroup
	one := func(who, count int, stamp stamps) {
		f.sent.Add(int64(count))
		if err := d.send(ctx, who, count, stamp); err != nil && ctx.Err() == nil {
			fail.add(int64(count), err)
			_ = pause(ctx, 50*time.Millisecond) // not to fail a thousand times over
		}
	}
	begin := f.saturate(d, one, &stop)
	if d.perSec > 0 {
		begin = f.pace(d, one, &stop)
	}
	for who := range d.senders {
		running.Go(func() { begin(ctx, who) })
	}
	got, err := f.measure(ctx, d.server)
	stop.Store(true)
	running.Wait()
	if err != nil {
		return err
	}
	fail.into(r)
	if d.bare {
		r.Limit, r.LimitLatency, r.LimitCPU = got.rate, got.latency, got.cpu
		return nil
	}
	r.Rate, r.Latency, r.CPU, r.Operations = got.rate, got.latency, got.cpu, got.count
	r.Extra = map[string]float64{"entries_per_response": got.perSend, "bytes_per_delivery": got.bytes,
		"messages_per_s": got.rate / float64(len(f.devices))}
	return nil
}

// saturate makes messages while no more than the window of deliveries is outstanding.
func (f *fleet) saturate(d drive, one func(who, count int, stamp stamps), stop *atomic.Bool) func(ctx context.Context, who int) {
	devices := int64(len(f.devices))
	base := f.received() - f.sent.Load()*devices
	window := max(4, fanWindow/devices)
	batch := min(int64(d.batch), max(1, window/int64(2*d.senders)))
	return func(ctx context.Context, who int) {
		for !stop.Load() && ctx.Err() == nil {
			if f.sent.Load()-(f.received()-base)/devices+batch > window {
				_ = pause(ctx, 300*time.Microsecond)
				continue
			}
			one(who, int(batch), all(time.Now()))
		}
	}
}

// pace makes messages at a rate, whether or not the ones before have arrived. A sender that finds several due sends them in
// one call, each with the time at which it was due, so that few senders do not become a limit.
func (f *fleet) pace(d drive, one func(who, count int, stamp stamps), stop *atomic.Bool) func(ctx context.Context, who int) {
	began := time.Now()
	due := func(slot int64) time.Time {
		return began.Add(time.Duration(float64(slot) / d.perSec * float64(time.Second)))
	}
	var mu sync.Mutex
	var next int64
	// claim takes the slots that are due, at most a batch, or says when the next one is.
	claim := func() (first int64, count int, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		first = next
		for count < d.batch && time.Until(due(next)) <= 0 {
			next++
			count++
		}
		return first, count, due(next)
	}
	return func(ctx context.Context, who int) {
		for !stop.Load() && ctx.Err() == nil {
			first, count, at := claim()
			if count == 0 {
				_ = pause(ctx, min(time.Until(at), 100*time.Millisecond)) // to see soon that it is over
				continue
			}
			one(who, count, func(i int) time.Time { return due(first + int64(i)) })
		}
	}
}
