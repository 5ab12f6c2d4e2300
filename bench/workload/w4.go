package workload

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/parley-im/parley/bench/limit"
	"github.com/parley-im/parley/bench/load"
	"github.com/parley-im/parley/bench/proc"
	"github.com/parley-im/parley/bench/report"
)

// idleGroup is how many of the idle devices share a session: there is something that they wait for.
const idleGroup = 50

// Names of the protocols in cases.
const (
	http11 = "HTTP/1.1"
	http2  = "HTTP/2"
)

// w4: idle devices, each on a connection of its own; what each takes of the server's memory. The limit is a bare net/http
// server that holds as many streams.
func (b *Bench) w4(ctx context.Context) error {
	n := b.cfg.Scale.Idle
	if !b.cfg.wantsAny("W4", caseW4(n, http11), caseW4(n, http2)) {
		return nil
	}
	if err := PrepareDescriptors(n + 500); err != nil {
		return err
	}
	if b.stack.PIDs.Server == 0 {
		return errors.New("the server's process is not to be seen from here")
	}
	b.say("W4: making %d devices", n)
	actors, err := b.actors(ctx, n)
	if err != nil {
		return err
	}
	err = b.each(ctx, (n+idleGroup-1)/idleGroup, parallel, func(ctx context.Context, c *load.Caller, i int) error {
		part := actors[i*idleGroup : min(n, (i+1)*idleGroup)]
		_, _, err := group(ctx, c, part[0], part[1:])
		return err
	})
	if err != nil {
		return err
	}
	for _, protocol := range []string{http11, http2} {
		if !b.cfg.wants("W4", caseW4(n, protocol)) {
			continue
		}
		for run := range b.cfg.Runs {
			r := report.Result{Workload: "W4", Case: caseW4(n, protocol), Run: run + 1, Unit: "kB/device",
				LowerIsBetter: true, Operations: int64(n)}
			if err := b.idle(ctx, actors, protocol == http2, &r); err != nil {
				return err
			}
			b.add(r, true)
		}
	}
	return nil
}

// idle measures one case: on a server that was started for it, where that is possible.
func (b *Bench) idle(ctx context.Context, actors []actor, h2 bool, r *report.Result) (err error) {
	if b.stack.Owned() {
		if err := b.stack.Restart(ctx, nil); err != nil {
			return err
		}
	}
	took, extra, err := b.held(ctx, b.stack.Addr(), b.stack.PIDs.Server, len(actors), h2, func(i int) opening { return opening{token: actors[i].token} }, r)
	if err != nil {
		return err
	}
	r.Rate, r.Extra = took, extra
	server, err := limit.Start(ctx, []string{b.stack.Program(), limit.Command, limit.Hold})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	r.Limit, _, err = b.held(ctx, server.Addr, server.PID, len(actors), h2, func(int) opening { return opening{} }, r)
	return err
}

// held connects n devices and returns how many kB of memory each takes of a process.
func (b *Bench) held(ctx context.Context, addr string, pid, n int, h2 bool, open func(int) opening, r *report.Result) (kb float64, extra map[string]float64, err error) {
	if err := pause(ctx, time.Second); err != nil { // what the start left is given back
		return 0, nil, err
	}
	before, err := proc.RSS(pid)
	if err != nil {
		return 0, nil, err
	}
	began := time.Now()
	f, err := b.online(ctx, addr, n, h2, open)
	if err != nil {
		return 0, nil, err
	}
	defer f.close()
	connected := time.Since(began)
	runtime.GC() // what connecting left here must not take the server's processors
	if err := pause(ctx, b.cfg.Warmup); err != nil {
		return 0, nil, err
	}
	from, err := b.times(pid)
	if err != nil {
		return 0, nil, err
	}
	if err := pause(ctx, b.cfg.Duration); err != nil {
		return 0, nil, err
	}
	to, err := b.times(pid)
	if err != nil {
		return 0, nil, err
	}
	after, err := proc.RSS(pid)
	if err != nil {
		return 0, nil, err
	}
	for i, d := range f.devices {
		if count, said := d.Problems(); count > 0 {
			r.Failed++
			if len(r.Problems) < maxSaid {
				r.Problems = append(r.Problems, fmt.Sprintf("device %d: %v", i, said))
			}
		}
	}
	extra = map[string]float64{"rss_mb": float64(after) / 1e6, "connects_per_s": float64(n) / connected.Seconds(),
		"cpu_percent": 100 * (to.server - from.server).Seconds() / to.at.Sub(from.at).Seconds()}
	return float64(after-before) / 1000 / float64(n), extra, nil
}
