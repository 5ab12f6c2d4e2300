package workload

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/parley-im/parley/bench/report"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

var (
	//go:embed sql/grow_relations.sql
	growRelationsSQL string
	//go:embed sql/grow_messages.sql
	growMessagesSQL string
	//go:embed sql/indexes.sql
	indexesSQL string
	//go:embed sql/grow_heads.sql
	growHeadsSQL string
	//go:embed sql/tidy.sql
	tidySQL string
	//go:embed sql/settle.sql
	settleSQL string
)

const (
	// grownGroup is how many members each loaded session has, grownEach in how many each loaded user is.
	grownGroup = 20
	grownEach  = 100
	// grownStep is how many rows one statement loads, about.
	grownStep = 1_000_000
)

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

// growth loads rows by SQL.
type growth struct {
	b        *Bench
	prefix   string
	sessions int64
	perEach  int64 // messages that each session has
}

// to loads messages until there are so many.
func (g *growth) to(ctx context.Context, messages int64) (err error) {
	conn, err := pgx.Connect(ctx, g.b.stack.PostgresURL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	began := time.Now()
	if g.perEach == 0 {
		if err := g.relations(ctx, conn); err != nil {
			return err
		}
	}
	if err := g.messages(ctx, conn, messages/g.sessions, began); err != nil {
		return err
	}
	for statement := range strings.SplitSeq(tidySQL, ";") { // VACUUM runs alone
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// messages loads entries until each session has that many, in the order in which they would have come: every session's
// next one after the other's. Rows go in without indexes, which are made anew afterwards: it takes a fraction of the time
// of keeping them up row by row, and they are as they were. All of it is one transaction.
func (g *growth) messages(ctx context.Context, conn *pgx.Conn, each int64, began time.Time) error {
	content, err := proto.Marshal(&parleyv1.Message{Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: padding}}}})
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		indexes, err := dropIndexes(ctx, tx)
		if err != nil {
			return err
		}
		step := max(1, grownStep/g.sessions)
		for g.perEach < each {
			to := min(each, g.perEach+step)
			if _, err := tx.Exec(ctx, growMessagesSQL, g.prefix, g.sessions, g.perEach+1, to, content); err != nil {
				return err
			}
			g.perEach = to
			g.b.say("W6: %d messages loaded after %s", to*g.sessions, time.Since(began).Round(time.Second))
		}
		for _, make := range indexes {
			if _, err := tx.Exec(ctx, make); err != nil {
				return err
			}
			g.b.say("W6: an index made after %s", time.Since(began).Round(time.Second))
		}
		_, err = tx.Exec(ctx, growHeadsSQL, g.prefix, g.sessions, g.perEach)
		return err
	})
}

// dropIndexes drops the indexes of msg and returns the statements that make them again.
func dropIndexes(ctx context.Context, tx pgx.Tx) (again []string, err error) {
	rows, err := tx.Query(ctx, indexesSQL)
	if err != nil {
		return nil, err
	}
	type index struct{ Drop, Make string }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if _, err := tx.Exec(ctx, i.Drop); err != nil {
			return nil, err
		}
		again = append(again, i.Make)
	}
	// Bounds of this transaction only: building is what takes memory here.
	_, err = tx.Exec(ctx, "SET LOCAL maintenance_work_mem = '1GB'")
	return again, err
}

// relations loads users, devices, sessions and memberships, without the triggers that would tell a running server of
// each: it is restarted afterwards.
func (g *growth) relations(ctx context.Context, conn *pgx.Conn) error {
	users := max(grownGroup, g.sessions*grownGroup/grownEach)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// The simple protocol takes several statements at once.
		_, err := tx.Exec(ctx, growRelationsSQL, pgx.QueryExecModeSimpleProtocol, g.prefix, g.sessions, users, int64(grownGroup))
		return err
	})
}
