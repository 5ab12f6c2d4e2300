package workload

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-im/parley/bench/limit"
	"github.com/parley-im/parley/bench/report"
)

// parts of the highest rate at which curves are measured.
var parts = []float64{0.1, 0.25, 0.5, 0.7, 0.85, 0.95}

// w1: senders over sessions that all are members of, each answer after the commit. The limit is the same rows by bare
// batched inserts.
func (b *Bench) w1(ctx context.Context) error {
	var wanted []int
	for _, n := range b.cfg.Scale.InFlight {
		if b.cfg.wants("W1", caseW1(b.cfg.Scale, n)) {
			wanted = append(wanted, n)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	s, err := b.newSending(ctx)
	if err != nil {
		return err
	}
	for _, inFlight := range wanted {
		var rates []float64
		for run := range b.cfg.Runs {
			r, err := s.result(ctx, "W1", inFlight)
			if err != nil {
				return err
			}
			r.Run = run + 1
			rates = append(rates, r.Rate)
			b.add(r, b.limited())
		}
		if err := s.contention(ctx, inFlight); err != nil {
			return err
		}
		if b.cfg.Curves {
			if err := s.curve(ctx, inFlight, report.Median(rates)); err != nil {
				return err
			}
		}
	}
	return nil
}

// contention measures once more, with the server's profiles of contention on: they cost something, so it does not count.
func (s *sending) contention(ctx context.Context, inFlight int) error {
	var fail failures
	r := report.Result{Workload: "W1", Case: caseW1(s.b.cfg.Scale, inFlight)}
	return s.b.contention(ctx, r.Workload, r.Case, func() error {
		_, err := s.run(ctx, inFlight, 0, &fail)
		return errors.Join(err, fail.err())
	})
}

// result measures one case of W1 and its limit.
func (s *sending) result(ctx context.Context, workload string, inFlight int) (report.Result, error) {
	r := report.Result{Workload: workload, Case: caseW1(s.b.cfg.Scale, inFlight), Unit: "messages/s"}
	var fail failures
	got, err := s.run(ctx, inFlight, 0, &fail)
	if err != nil {
		return r, err
	}
	fail.into(&r)
	r.Rate, r.Latency, r.CPU, r.Operations, r.Beside = got.rate, got.latency, got.cpu, got.count, got.beside
	r.Waits, r.Extra = got.waits.share(), map[string]float64{"postgres_backends_busy": got.waits.busy()}
	if s.b.stack.PostgresURL() == "" {
		return r, nil
	}
	bare, cpu, err := s.b.insertLimit(ctx, inFlight*len(s.senders))
	r.Limit, r.LimitLatency, r.LimitCPU = bare.Rate(), bare.Latency, cpu
	return r, err
}

// insertConns are the numbers of connections that bare inserts are tried with; the best one is the limit.
var insertConns = []int{1, 2, 4}

// insertLimit inserts the same rows barely, as many at once as the senders have in flight.
func (b *Bench) insertLimit(ctx context.Context, inFlight int) (best limit.Inserted, cpu report.CPU, err error) {
	rows := limit.Rows{URL: b.stack.PostgresURL(), Sessions: b.cfg.Scale.Sessions}
	if err := rows.Make(ctx); err != nil {
		return best, cpu, err
	}
	for _, conns := range insertConns {
		from, err := b.times(0)
		if err != nil {
			return best, cpu, err
		}
		got, err := rows.Insert(ctx, conns, max(1, inFlight/conns), b.cfg.Warmup/4, b.cfg.Duration/2)
		if err != nil {
			return best, cpu, err
		}
		to, err := b.times(0)
		if err != nil {
			return best, cpu, err
		}
		if best.Rows == 0 || got.Rate() > best.Rate() {
			best, cpu = got, per(from, to, got.Rows)
		}
	}
	return best, cpu, rows.Drop(ctx)
}

// curve measures latency at parts of the highest rate, open-loop.
func (s *sending) curve(ctx context.Context, inFlight int, highest float64) error {
	c := report.Curve{Name: fmt.Sprintf("W1: %d per call", inFlight), Unit: "messages/s"}
	for _, part := range parts {
		var fail failures
		got, err := s.run(ctx, inFlight, part*highest, &fail)
		if err != nil {
			return err
		}
		r := report.Result{Workload: "W1", Case: fmt.Sprintf("%s at %.0f %%", c.Name, 100*part), Run: 1, Unit: c.Unit, Rate: got.rate,
			Latency: got.latency, CPU: got.cpu, Operations: got.count}
		fail.into(&r)
		s.b.add(r, false)
		c.Points = append(c.Points, report.Point{Offered: part * highest, Rate: got.rate, Latency: got.latency})
	}
	s.b.report.Curves = append(s.b.report.Curves, c)
	return nil
}
