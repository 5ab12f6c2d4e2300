package workload

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley/bench/check"
	"github.com/parley-im/parley/bench/latency"
	"github.com/parley-im/parley/bench/limit"
	"github.com/parley-im/parley/bench/load"
	"github.com/parley-im/parley/bench/report"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

const (
	// circleCallers are the connections that sends go over; devices take turns on them.
	circleCallers = 64
	// circleWindow is how many deliveries may be outstanding.
	circleWindow = 20_000
)

// circles is W5's part: small groups whose members are all online and all send.
type circles struct {
	b       *Bench
	size    int // of a group
	devices []actor
	groups  []string
	heads   []int64
}

// w5: many small groups, all sending. Its limits are those of W1 and W2: the same rows inserted barely, and the same
// deliveries written barely, one after the other.
func (b *Bench) w5(ctx context.Context) error {
	sc := b.cfg.Scale
	if !b.cfg.wants("W5", caseW5(sc)) {
		return nil
	}
	n := sc.SmallGroups * sc.SmallGroup
	if err := PrepareDescriptors(n + 500); err != nil {
		return err
	}
	b.say("W5: making %d groups of %d", sc.SmallGroups, sc.SmallGroup)
	actors, err := b.actors(ctx, n)
	if err != nil {
		return err
	}
	c := &circles{b: b, size: sc.SmallGroup, devices: actors, groups: make([]string, sc.SmallGroups), heads: make([]int64, sc.SmallGroups)}
	err = b.each(ctx, sc.SmallGroups, parallel, func(ctx context.Context, caller *load.Caller, i int) (err error) {
		part := actors[i*c.size : (i+1)*c.size]
		c.groups[i], c.heads[i], err = group(ctx, caller, part[0], part[1:])
		return err
	})
	if err != nil {
		return err
	}
	for run := range b.cfg.Runs {
		r := report.Result{Workload: "W5", Case: caseW5(sc), Run: run + 1, Unit: "messages/s"}
		if err := c.parley(ctx, &r); err != nil {
			return err
		}
		if err := c.bare(ctx, &r); err != nil {
			return err
		}
		b.add(r, b.limited())
	}
	return nil
}

func (c *circles) parley(ctx context.Context, r *report.Result) error {
	f, err := c.b.online(ctx, c.b.stack.Addr(), len(c.devices), false, func(i int) opening {
		g := i / c.size
		return opening{token: c.devices[i].token, cursors: []*parleyv1.Cursor{{SessionId: c.groups[g], Seq: c.heads[g]}}}
	})
	if err != nil {
		return err
	}
	defer f.close()
	var ledger check.Ledger
	for i, id := range c.groups {
		ledger.Start(id, c.heads[i])
	}
	var fail failures
	acks := latency.NewRecorder()
	begin := time.AfterFunc(c.b.cfg.Warmup, acks.Begin)
	defer begin.Stop()
	var stop atomic.Bool
	var all sync.WaitGroup
	for who := range min(circleCallers, len(c.devices)) {
		all.Go(func() { c.talk(ctx, f, who, &ledger, acks, &stop, &fail) })
	}
	got, err := f.measure(ctx, c.b.stack.PIDs.Server)
	acked := acks.End()
	stop.Store(true)
	all.Wait()
	if err != nil {
		return err
	}
	for i, id := range c.groups {
		c.heads[i] = ledger.Head(id)
	}
	if wrong, said := ledger.Settle(); wrong > 0 {
		fail.add(int64(wrong), errors.New(strings.Join(said, "; ")))
	}
	fail.into(r)
	// Each message goes to all members of its group but the device that sent it.
	others := float64(c.size - 1)
	r.Rate, r.Latency, r.Operations = got.rate/others, got.latency, int64(float64(got.count)/others)
	r.CPU = report.CPU{Server: got.cpu.Server * others, Load: got.cpu.Load * others, Postgres: got.cpu.Postgres * others, Redis: got.cpu.Redis * others}
	r.Extra = map[string]float64{"deliveries_per_s": got.rate, "ack_p50_ms": acked.P50, "ack_p99_ms": acked.P99}
	return f.settle(ctx, func(i int) (string, int64) { return c.groups[i/c.size], c.heads[i/c.size] }, r)
}

// talk sends for every circleCallers'th device in turn.
func (c *circles) talk(ctx context.Context, f *fleet, who int, ledger *check.Ledger, acks *latency.Recorder, stop *atomic.Bool, fail *failures) {
	s := newSender(actor{}, c.b.stack.Addr(), ledger, 1)
	defer s.caller.Close()
	others := int64(c.size - 1)
	for i := who; !stop.Load() && ctx.Err() == nil; {
		if f.sent.Load()*others-f.received() > circleWindow {
			_ = pause(ctx, 300*time.Microsecond)
			continue
		}
		s.actor = c.devices[i]
		s.answered = f.devices[i].Own
		at := time.Now()
		f.sent.Add(1)
		failed, err := s.send(ctx, 1, all(at), func() string { return c.groups[i/c.size] })
		if err != nil && ctx.Err() == nil {
			fail.add(failed, err)
			_ = pause(ctx, 50*time.Millisecond) // not to fail a thousand times over
		}
		acks.Record(who, time.Since(at), 1-failed)
		if i += circleCallers; i >= len(c.devices) {
			i = who
		}
	}
}

// bare measures the limit: the time to insert a message barely and the time to write its deliveries barely, added up,
// since both take the same processors.
func (c *circles) bare(ctx context.Context, r *report.Result) error {
	if c.b.stack.PostgresURL() == "" {
		return nil
	}
	rows, cpu, err := c.b.insertLimit(ctx, circleCallers)
	if err != nil {
		return err
	}
	var writes report.Result
	err = c.b.bareFan(ctx, len(c.devices), func(f *fleet, send source, pid int) error {
		if err := f.drive(ctx, drive{send: send, senders: 1, batch: 1, server: pid, bare: true}, &writes); err != nil {
			return err
		}
		return f.settle(ctx, func(int) (string, int64) { return limit.FanSession, f.sent.Load() }, &writes)
	})
	if err != nil {
		return err
	}
	r.Missing += writes.Missing
	r.Problems = append(r.Problems, writes.Problems...)
	others := float64(c.size - 1)
	if rows.Rows > 0 && writes.Limit > 0 {
		r.Limit = 1 / (1/rows.Rate() + others/writes.Limit)
	}
	r.LimitCPU = cpu
	r.LimitCPU.Server += writes.LimitCPU.Server * others
	r.LimitCPU.Load += writes.LimitCPU.Load * others
	r.Extra["limit_rows_per_s"], r.Extra["limit_deliveries_per_s"] = rows.Rate(), writes.Limit
	return nil
}
