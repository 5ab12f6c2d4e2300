package storage

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// pipeline collects sqlc's queries for one round trip: given to them as their database it queues what they would run, with
// the arguments in the order in which sqlc numbered them, and runs nothing.
type pipeline struct{ pgx.Batch }

// errQueued is what the generated code gets in place of a result.
var errQueued = errors.New("queued")

// queued takes the error of a generated function, which is errQueued by design. Anything else is a mistake of the code.
func (p *pipeline) queued(err error) {
	if !errors.Is(err, errQueued) {
		panic("storage: a query was not queued") //nolint:forbidigo // only a bug here
	}
}

func (p *pipeline) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	p.Queue(sql, args...)
	return pgconn.CommandTag{}, errQueued
}

func (p *pipeline) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	p.Queue(sql, args...)
	return nil, errQueued
}

func (p *pipeline) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	p.Queue(sql, args...)
	return queuedRow{}
}

type queuedRow struct{}

func (queuedRow) Scan(...any) error { return errQueued }

// last is the query queued last, to say what becomes of its result.
func (p *pipeline) last() *pgx.QueuedQuery { return p.QueuedQueries[len(p.QueuedQueries)-1] }
