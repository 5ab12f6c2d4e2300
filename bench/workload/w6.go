package workload

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	//go:embed sql/grow_heads.sql
	growHeadsSQL string
	//go:embed sql/tidy.sql
	tidySQL string
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
	before, err := b.stage(ctx, "nothing loaded")
	if err != nil {
		return err
	}
	flat := make(map[string]report.Result)
	for _, r := range before {
		flat[r.Case] = r
	}
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
	for i, r := range before {
		before[i].Limit = r.Rate
	}
	for _, r := range before {
		b.keep(r)
	}
	return nil
}

// keep adds a result of a stage, whose name becomes a part of the case.
func (b *Bench) keep(r report.Result) {
	r.Case += ", " + r.Stage
	b.add(r)
}

// stage measures W1 and W3 on what is stored now. The results are medians over the runs.
func (b *Bench) stage(ctx context.Context, name string) ([]report.Result, error) {
	b.say("W6: %s", name)
	var rep report.Report
	s, err := b.newSending(ctx)
	if err != nil {
		return nil, err
	}
	most := slices.Max(b.cfg.Scale.Returning)
	back, err := b.newReturning(ctx, most)
	if err != nil {
		return nil, err
	}
	for run := range b.cfg.Runs {
		for _, inFlight := range b.cfg.Scale.InFlight {
			var fail failures
			got, err := s.run(ctx, inFlight, 0, &fail)
			if err != nil {
				return nil, err
			}
			r := report.Result{Case: fmt.Sprintf("W1 x %d in flight", inFlight), Unit: "messages/s", Rate: got.rate, Latency: got.latency, CPU: got.cpu,
				Operations: got.count, Run: run + 1}
			fail.into(&r)
			rep.Runs = append(rep.Runs, r)
		}
		r, err := back.result(ctx, redisOff, most)
		if err != nil {
			return nil, err
		}
		r.Case, r.Run = "W3 "+r.Case, run+1
		rep.Runs = append(rep.Runs, r)
		if err := b.stack.Serve(ctx, nil); err != nil {
			return nil, err
		}
	}
	rep.Summarize()
	for i := range rep.Summary {
		rep.Summary[i].Workload, rep.Summary[i].Stage = "W6", name
	}
	return rep.Summary, nil
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
	content, err := proto.Marshal(&parleyv1.Message{Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: padding}}}})
	if err != nil {
		return err
	}
	each := messages / g.sessions
	step := max(1, grownStep/g.sessions)
	for g.perEach < each {
		to := min(each, g.perEach+step)
		if _, err := conn.Exec(ctx, growMessagesSQL, g.prefix, g.sessions, g.perEach+1, to, content); err != nil {
			return err
		}
		g.perEach = to
		g.b.say("W6: %d messages loaded after %s", to*g.sessions, time.Since(began).Round(time.Second))
	}
	if _, err := conn.Exec(ctx, growHeadsSQL, g.prefix, g.sessions, g.perEach); err != nil {
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
