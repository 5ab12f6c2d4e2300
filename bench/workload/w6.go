package workload

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/bench/report"
)

//go:embed sql/settle.sql
var settleSQL string

// w6: W1 and W3 again with many messages stored and many memberships. Flat is the limit: the figure before anything was
// loaded is the limit of those after.
func (b *Bench) w6(ctx context.Context) error {
	if !b.stack.Owned() || b.stack.PostgresURL() == "" {
		b.say("W6 is left out: it fills the database and restarts the server, so it needs one of the bench's own")
		return nil
	}
	names := []string{caseGrownBack(b.cfg.Scale)}
	for _, n := range b.cfg.Scale.InFlight {
		names = append(names, caseGrownSend(n))
	}
	if !b.cfg.wantsAny("W6", names...) {
		return nil
	}
	before, err := b.stage(ctx, "nothing loaded")
	if err != nil {
		return err
	}
	flat := medians(before)
	g := &growth{b: b, prefix: b.prefix + "-grown", sessions: b.cfg.Scale.Memberships / grownGroup}
	for _, messages := range b.cfg.Scale.Grown {
		if err := g.to(ctx, messages); err != nil {
			return fmt.Errorf("load %d messages: %w", messages, err)
		}
		// The map of all relations is read again as a node reads it that starts.
		if err := b.stack.Restart(ctx, nil); err != nil {
			return err
		}
		after, err := b.stage(ctx, fmt.Sprintf("%g M messages, %g M memberships", float64(messages)/1e6, float64(b.cfg.Scale.Memberships)/1e6))
		if err != nil {
			return err
		}
		for _, r := range after {
			r.Limit, r.LimitLatency, r.LimitCPU = flat[r.Case].Rate, flat[r.Case].Latency, flat[r.Case].CPU
			b.keep(r)
		}
	}
	for _, r := range before {
		r.Limit, r.LimitLatency, r.LimitCPU = r.Rate, r.Latency, r.CPU
		b.keep(r)
	}
	return nil
}

// medians are those of the runs of each case.
func medians(runs []report.Result) map[string]report.Result {
	rep := report.Report{Runs: runs}
	rep.Summarize()
	out := make(map[string]report.Result)
	for _, r := range rep.Summary {
		out[r.Case] = r
	}
	return out
}

// keep adds a run of a stage, whose name becomes a part of the case.
func (b *Bench) keep(r report.Result) {
	r.Case += ", " + r.Stage
	b.add(r, true)
}

// stage measures W1 and W3 on what is stored now, once all of it is on disk: every run of each.
func (b *Bench) stage(ctx context.Context, name string) (runs []report.Result, err error) {
	b.say("W6: %s", name)
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	var wanted []int
	for _, n := range b.cfg.Scale.InFlight {
		if b.cfg.wants("W6", caseGrownSend(n)) {
			wanted = append(wanted, n)
		}
	}
	if len(wanted) > 0 {
		s, err := b.newSending(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range wanted {
			for run := range b.cfg.Runs {
				r, err := s.grown(ctx, n, run+1)
				if err != nil {
					return nil, err
				}
				runs = append(runs, r)
			}
		}
	}
	if name := caseGrownBack(b.cfg.Scale); b.cfg.wants("W6", name) {
		most := slices.Max(b.cfg.Scale.Returning)
		back, err := b.newReturning(ctx, most)
		if err != nil {
			return nil, err
		}
		for run := range b.cfg.Runs {
			r, err := back.result(ctx, redisOff, most)
			if err != nil {
				return nil, err
			}
			r.Case, r.Run = name, run+1
			runs = append(runs, r)
		}
		if err := b.stack.Serve(ctx, nil); err != nil {
			return nil, err
		}
	}
	for i := range runs {
		runs[i].Workload, runs[i].Stage = "W6", name
	}
	return runs, nil
}

// settle has PostgreSQL write all that it changed, and waits until the kernel has written all that it was given: what
// loading left to be written is not measured.
func (b *Bench) settle(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.stack.PostgresURL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, settleSQL)
	syscall.Sync() // on Linux it returns when all is written
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// grown measures sending, without its limit: flat is the limit.
func (s *sending) grown(ctx context.Context, inFlight, run int) (report.Result, error) {
	r := report.Result{Case: caseGrownSend(inFlight), Unit: "messages/s", Run: run}
	var fail failures
	got, err := s.run(ctx, inFlight, 0, &fail)
	r.Rate, r.Latency, r.CPU, r.Operations, r.Beside = got.rate, got.latency, got.cpu, got.count, got.beside
	r.Waits, r.Extra = got.waits.share(), map[string]float64{"postgres_backends_busy": got.waits.busy()}
	fail.into(&r)
	return r, err
}
