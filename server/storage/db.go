// Package storage has the adapters between Parley's domain and its stores: sqlc's rows end here. Every method returns
// errors through Fault, so that callers see refusals and plain errors, never SQL.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/refusal"
)

// DB is the PostgreSQL that all adapters share. Safe for concurrent use.
type DB struct {
	pool *pgxpool.Pool
	q    *sqlc.Queries
}

// New wraps a pool, which stays the caller's to close.
func New(pool *pgxpool.Pool) *DB { return &DB{pool: pool, q: sqlc.New()} }

// maxTries bounds how often a transaction is begun again after a deadlock or a serialization failure.
const maxTries = 5

// InTx runs fn in one transaction and commits it, or rolls back when fn fails. fn runs again from the start, at most
// five times in all, when PostgreSQL sacrificed the transaction to a deadlock or a serialization failure; whatever it
// keeps outside the transaction must survive that.
func (db *DB) InTx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	var err error
	for range maxTries {
		err = pgx.BeginFunc(ctx, db.pool, fn)
		if !Retryable(err) {
			break
		}
	}
	return Fault(err)
}

// Retryable reports whether the transaction was rolled back for a reason that lies in its neighbours.
func Retryable(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "40001" || pe.Code == "40P01")
}

// unavailable is one value: it carries nothing of the fault, which is logged where it is met.
var unavailable = refusal.New(refusal.Unavailable, "The database cannot be reached; the outcome of a write is unknown.")

// faultError keeps the cause for the log beside the refusal that the caller sees.
type faultError struct{ cause error }

func (e *faultError) Error() string   { return "postgres: " + e.cause.Error() }
func (e *faultError) Unwrap() []error { return []error{unavailable, e.cause} }

// Fault turns an error of pgx into what the domain understands: connection trouble becomes refusal.Unavailable (with the
// cause kept for logs), refusals and context.Canceled stay, everything else is wrapped. nil stays nil.
func Fault(err error) error {
	if err == nil {
		return nil
	}
	if _, refused := refusal.Of(err); refused || errors.Is(err, context.Canceled) {
		return err
	}
	if connectionTrouble(err) {
		return &faultError{cause: err}
	}
	return fmt.Errorf("postgres: %w", err)
}

func connectionTrouble(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		// 08 connection exceptions; 53 out of connections, memory or disk; 57P admin shutdown, crash, cannot connect
		// now; 57014 canceled by a timeout; 25006 read-only: a standby or a demoted primary; 55P03 lock timeout.
		return strings.HasPrefix(pe.Code, "08") || strings.HasPrefix(pe.Code, "53") || strings.HasPrefix(pe.Code, "57P") ||
			pe.Code == "57014" || pe.Code == "25006" || pe.Code == "55P03"
	}
	var ce *pgconn.ConnectError
	var ne net.Error
	return errors.As(err, &ce) || errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err) ||
		strings.Contains(err.Error(), "conn closed")
}
