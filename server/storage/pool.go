package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parley-im/parley/gen/sqlc"
)

// undefinedFunction is the SQLSTATE for a function that is not there.
const undefinedFunction = "42883"

// errNewEpoch fails what was begun in the former life of the log and would end in the present one.
var errNewEpoch = errors.New("the database was promoted or restored")

// epochOfConn is under what name a connection keeps the epoch that it was made in. A server does not change its epoch while
// it has connections that write, so what is committed on the connection is of that one.
const epochOfConn = "parley.epoch"

// epochOf is the epoch of a connection; empty where nobody watches.
func epochOf(conn *pgx.Conn) string {
	epoch, _ := conn.PgConn().CustomData()[epochOfConn].(string)
	return epoch
}

// OpenPool makes the pool of connections that all adapters share; it connects when first used. The URL's own settings
// hold but for those that the adapters rely on. Of several hosts in it the first that takes writes is used; a standby
// counts as not there.
func OpenPool(ctx context.Context, url string, maxConns int) (*pgxpool.Pool, error) {
	return OpenWatchedPool(ctx, url, maxConns, nil)
}

// OpenWatchedPool is OpenPool; seen gets the epoch of each connection before anybody else gets the connection, and says
// whether it is another one than before: then the connection, and what waited for it, fails once. It may be called by
// several goroutines at once, and not at all while the database has no schema yet.
func OpenWatchedPool(ctx context.Context, url string, maxConns int, seen func(epoch string) (changed bool)) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("PARLEY_POSTGRES_URL is no valid connection string") // err quotes it, password and all
	}
	cfg.MaxConns = int32(maxConns) //nolint:gosec // validated with the settings
	if !says(url, "pool_max_conn_idle_time") {
		cfg.MaxConnIdleTime = 5 * time.Minute
	}
	cfg.HealthCheckPeriod = 5 * time.Second
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	set := cfg.ConnConfig.RuntimeParams
	set["application_name"] = "parley"
	set["timezone"] = "UTC"
	// A batch relies on each of its steps having a snapshot of its own.
	set["default_transaction_isolation"] = "read committed"
	// Planning a batch anew costs more than running it; its plan is index look-ups whatever the parameters are.
	set["plan_cache_mode"] = "force_generic_plan"
	set["jit"] = "off"
	// A plan made while a table was small must not scan it whole when it has grown: every query here has its index.
	set["enable_seqscan"] = "off"
	// What PostgreSQL gives up on by itself, should this node hang or vanish.
	set["statement_timeout"] = "15s"
	set["lock_timeout"] = "10s"
	set["idle_in_transaction_session_timeout"] = "30s"
	// A standby would answer reads of a log's life that is about to end, and refuse everything else.
	cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		registerUUIDs(conn.TypeMap())
		if seen == nil {
			return nil
		}
		epoch, err := sqlc.New().FeedEpoch(ctx, conn)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == undefinedFunction { // not migrated yet
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the epoch: %w", err)
		}
		if seen(epoch) {
			return errNewEpoch
		}
		conn.PgConn().CustomData()[epochOfConn] = epoch
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("make the connection pool: %w", err)
	}
	return pool, nil
}

// says reports whether a connection string that is valid has a setting of the pool in it.
func says(url, setting string) bool {
	cfg, err := pgx.ParseConfig(url) // to which it means nothing, so it is among the parameters for the server
	if err != nil {
		return false
	}
	_, ok := cfg.RuntimeParams[setting]
	return ok
}
