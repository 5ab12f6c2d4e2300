package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/bench/check"
	"github.com/parley-im/parley/bench/latency"
	"github.com/parley-im/parley/bench/limit"
	"github.com/parley-im/parley/bench/load"
	"github.com/parley-im/parley/bench/report"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// returning is W3's part: devices that come back to sessions of which they have not seen the last entries. They confirm
// nothing, and say where they stand when they come, so they can come back again and again.
type returning struct {
	b       *Bench
	devices []actor
	cursors [][]*parleyv1.Cursor // of each device: where it stands
	unread  int64                // entries past each cursor
}

// newReturning makes n devices, the sessions of each and what it has not seen.
func (b *Bench) newReturning(ctx context.Context, n int) (*returning, error) {
	sc := b.cfg.Scale
	b.say("making %d devices with %d sessions of %d unread messages each", n, sc.Backlog, sc.Unread)
	actors, err := b.actors(ctx, 2*n)
	if err != nil {
		return nil, err
	}
	r := &returning{b: b, devices: actors[:n], cursors: make([][]*parleyv1.Cursor, n), unread: int64(sc.Unread)}
	for i := range r.cursors {
		r.cursors[i] = make([]*parleyv1.Cursor, sc.Backlog)
	}
	var ledger check.Ledger
	const batch = 250
	err = b.each(ctx, n, parallel, func(ctx context.Context, c *load.Caller, i int) error {
		s := newSender(actors[n+i], b.stack.Addr(), &ledger, batch)
		s.caller = c
		for j := range r.cursors[i] {
			id, head, err := group(ctx, c, s.actor, actors[i:i+1])
			if err != nil {
				return err
			}
			ledger.Start(id, head)
			r.cursors[i][j] = &parleyv1.Cursor{SessionId: id, Seq: head}
		}
		next := 0
		for left := sc.Backlog * sc.Unread; left > 0; {
			n := min(left, batch)
			left -= n
			_, err := s.send(ctx, n, all(time.Now()), func() string {
				next++
				return r.cursors[i][next%sc.Backlog].GetSessionId()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make backlogs: %w", err)
	}
	if wrong, said := ledger.Settle(); wrong > 0 {
		return nil, errors.New(strings.Join(said, "; "))
	}
	return r, nil
}

// tier is where backlogs come from in a case of W3.
type tier struct {
	name     string
	settings map[string]string // of the server
	cold     bool              // Redis is emptied before each time
	warm     bool              // Redis is filled before the first time
}

// tiers returns what can be measured. The node's own memory of recent entries is turned off: it would hide Redis.
func (b *Bench) tiers() []tier {
	if !b.stack.Owned() {
		return []tier{{name: tierAsItIs}}
	}
	out := []tier{{name: tierWarm, settings: map[string]string{"PARLEY_RING_BYTES": "0"}, warm: true}}
	if b.stack.OwnRedis() {
		out = append(out, tier{name: tierCold, settings: out[0].settings, cold: true})
	}
	return append(out, redisOff)
}

// Names of tiers.
const (
	tierAsItIs = "as it is"
	tierWarm   = "Redis warm"
	tierCold   = "Redis cold"
	tierOff    = "Redis off"
)

var redisOff = tier{name: tierOff, settings: map[string]string{"PARLEY_RING_BYTES": "0", "PARLEY_REDIS_URL": ""}}

// w3: devices come back, alone and many at once. The limit is the same rows by one query for each device.
func (b *Bench) w3(ctx context.Context) error {
	type wanted struct {
		tier tier
		n    int
	}
	var cases []wanted
	most := 0
	for _, t := range b.tiers() {
		for _, n := range b.cfg.Scale.Returning {
			if b.cfg.wants("W3", caseW3(n, t.name)) {
				cases = append(cases, wanted{t, n})
				most = max(most, n)
			}
		}
	}
	if len(cases) == 0 {
		return nil
	}
	r, err := b.newReturning(ctx, most)
	if err != nil {
		return err
	}
	for _, c := range cases {
		for run := range b.cfg.Runs {
			res, err := r.result(ctx, c.tier, c.n)
			if err != nil {
				return err
			}
			res.Workload, res.Run = "W3", run+1
			b.add(res, b.limited())
		}
	}
	if !b.stack.Owned() {
		return nil
	}
	return b.stack.Serve(ctx, nil)
}

// result measures one case and its limit.
func (r *returning) result(ctx context.Context, t tier, n int) (report.Result, error) {
	res := report.Result{Case: caseW3(n, t.name), Unit: "entries/s"}
	if r.b.stack.Owned() {
		if err := r.b.stack.Serve(ctx, t.settings); err != nil {
			return res, err
		}
	}
	if t.warm {
		if err := r.fill(ctx, n, &res); err != nil {
			return res, err
		}
	}
	got, cpu, err := r.rounds(ctx, n, func() error {
		if !t.cold {
			return nil
		}
		return r.b.stack.FlushRedis(ctx)
	}, func(i int) (time.Duration, error) { return r.back(ctx, i, &res) }, r.b.stack.PIDs.Server)
	if err != nil {
		return res, err
	}
	res.Operations = got.Count * r.entries()
	res.Rate, res.Latency, res.CPU = got.rate, got.Summary, cpu
	if r.b.stack.PostgresURL() == "" {
		return res, nil
	}
	bare, cpu, err := r.bare(ctx, n)
	res.Limit, res.LimitLatency, res.LimitCPU = bare.rate, bare.Summary, cpu
	return res, err
}

// fill lets each device come back alone, so that what Redis lacks of its backlog (the server lets appends go when it sends
// faster than Redis takes them) is there afterwards.
func (r *returning) fill(ctx context.Context, n int, res *report.Result) error {
	for range 2 {
		for i := range n {
			if _, err := r.back(ctx, i, res); err != nil {
				return err
			}
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// entries is how many each device has not seen.
func (r *returning) entries() int64 { return int64(len(r.cursors[0])) * r.unread }

// came is how fast devices had everything.
type came struct {
	latency.Summary // of a device, from its call to CaughtUp

	rate float64 // entries per second of all of them
}

// rounds lets n devices come back at once, again and again; the rounds of the warm-up are not counted, and preparing a
// round takes no part in the rate.
func (r *returning) rounds(ctx context.Context, n int, prepare func() error, back func(i int) (time.Duration, error), server int) (out came, cpu report.CPU, err error) {
	rec := latency.NewRecorder()
	var spent time.Duration
	var from times
	began := time.Now()
	warm := true
	for {
		if warm && time.Since(began) >= r.b.cfg.Warmup {
			warm, began, spent = false, time.Now(), 0
			rec.Begin()
			if from, err = r.b.times(server); err != nil {
				return out, cpu, err
			}
		}
		if err := prepare(); err != nil {
			return out, cpu, err
		}
		at := time.Now()
		var all sync.WaitGroup
		errs := make([]error, n)
		for i := range n {
			all.Go(func() {
				took, err := back(i)
				rec.Record(i, took, 1)
				errs[i] = err
			})
		}
		all.Wait()
		spent += time.Since(at)
		if err := errors.Join(errs...); err != nil {
			return out, cpu, err
		}
		if !warm && time.Since(began) >= r.b.cfg.Duration {
			break
		}
		if ctx.Err() != nil {
			return out, cpu, ctx.Err()
		}
	}
	out.Summary = rec.End()
	to, err := r.b.times(server)
	entries := out.Count * r.entries()
	out.rate = float64(entries) / spent.Seconds()
	return out, per(from, to, entries), err
}

// back lets a device come back and proves what it got.
func (r *returning) back(ctx context.Context, i int, res *report.Result) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, load.CallTimeout)
	defer cancel()
	caught := make(chan time.Time, 1)
	d := &check.Device{OnCaughtUp: func() { caught <- time.Now() }}
	for _, c := range r.cursors[i] {
		d.Start(c.GetSessionId(), c.GetSeq())
	}
	at := time.Now()
	s, err := load.Open(ctx, load.Options{Addr: r.b.stack.Addr(), Token: r.devices[i].token, Index: i},
		&parleyv1.SubscribeRequest{Cursors: r.cursors[i]}, d)
	if err != nil {
		return 0, err
	}
	var took time.Duration
	select {
	case t := <-caught:
		took = t.Sub(at)
	case <-ctx.Done():
		err = fmt.Errorf("a device did not catch up: %w", ctx.Err())
	}
	s.Close()
	r.b.prove.Lock()
	defer r.b.prove.Unlock()
	for _, c := range r.cursors[i] {
		res.Missing += int64(d.Settle(c.GetSessionId(), c.GetSeq()+r.unread))
	}
	if n, said := d.Problems(); n > 0 && len(res.Problems) < maxSaid {
		res.Problems = append(res.Problems, strings.Join(said, "; "))
	}
	return took, err
}

// bare measures the same rows by one query for each device, on a connection of its own that is open already.
func (r *returning) bare(ctx context.Context, n int) (out came, cpu report.CPU, err error) {
	conns := make([]*pgx.Conn, n)
	ranges := make([][]limit.Range, n)
	for i := range n {
		if conns[i], err = pgx.Connect(ctx, r.b.stack.PostgresURL()); err != nil {
			return out, cpu, err
		}
		defer conns[i].Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is left to send
		for _, c := range r.cursors[i] {
			id, err := uuid.Parse(c.GetSessionId())
			if err != nil {
				return out, cpu, err
			}
			ranges[i] = append(ranges[i], limit.Range{Session: id, From: c.GetSeq(), To: c.GetSeq() + r.unread})
		}
	}
	return r.rounds(ctx, n, func() error { return nil }, func(i int) (time.Duration, error) {
		at := time.Now()
		got, err := limit.Read(ctx, conns[i], ranges[i])
		if err == nil && int64(got) != r.entries() {
			err = fmt.Errorf("the query found %d rows of %d", got, r.entries())
		}
		return time.Since(at), err
	}, 0)
}
