package workload

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

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
)

const (
	// grownGroup is how many members each loaded session has, grownEach in how many each loaded user is.
	grownGroup = 20
	grownEach  = 100
	// grownStep is how many rows one statement loads, about.
	grownStep = 1_000_000
)

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
