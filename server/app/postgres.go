package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parley-im/parley/db"
)

// openPostgres connects, waiting a bounded time for PostgreSQL to come up, and brings the schema up to date.
func openPostgres(ctx context.Context, cfg PostgresConfig, log *slog.Logger) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errors.New("PARLEY_POSTGRES_URL is no valid connection string") // err quotes it, password and all
	}
	pc.MaxConns = int32(cfg.MaxConns) //nolint:gosec // validated
	pc.MaxConnIdleTime = 5 * time.Minute
	pc.HealthCheckPeriod = 5 * time.Second
	pc.ConnConfig.ConnectTimeout = 5 * time.Second
	set := pc.ConnConfig.RuntimeParams
	set["application_name"] = "parley"
	// A batch relies on each of its steps having a snapshot of its own.
	set["default_transaction_isolation"] = "read committed"
	// What the server gives up on by itself, should this node hang or vanish.
	set["statement_timeout"] = "15s"
	set["lock_timeout"] = "10s"
	set["idle_in_transaction_session_timeout"] = "30s"
	set["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("make the connection pool: %w", err)
	}
	if err := ready(ctx, pool, cfg, log); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

func ready(ctx context.Context, pool *pgxpool.Pool, cfg PostgresConfig, log *slog.Logger) error {
	deadline, cancel := context.WithTimeout(ctx, cfg.Wait)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		err := pool.Ping(deadline)
		if err == nil {
			break
		}
		if !told {
			log.WarnContext(ctx, "waiting for PostgreSQL", "error", err)
			told = true
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			return fmt.Errorf("PostgreSQL did not answer within %s: %w", cfg.Wait, err)
		}
	}
	if err := db.Migrate(ctx, cfg.URL); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var durable string
	if err := pool.QueryRow(ctx, "SHOW synchronous_commit").Scan(&durable); err != nil {
		return fmt.Errorf("read synchronous_commit: %w", err)
	}
	if durable == "off" {
		log.WarnContext(ctx, "synchronous_commit is off: PostgreSQL confirms commits before they are on disk, and so would Parley")
	}
	return nil
}
