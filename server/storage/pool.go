package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// OpenPool makes the pool of connections that all adapters share; it connects when first used. The URL's own settings
// hold but for those that the adapters rely on.
func OpenPool(ctx context.Context, url string, maxConns int) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("PARLEY_POSTGRES_URL is no valid connection string") // err quotes it, password and all
	}
	cfg.MaxConns = int32(maxConns) //nolint:gosec // validated with the settings
	cfg.MaxConnIdleTime = 5 * time.Minute
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
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerUUIDs(conn.TypeMap())
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("make the connection pool: %w", err)
	}
	return pool, nil
}
