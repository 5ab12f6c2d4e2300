package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parley-im/parley/db"
	"github.com/parley-im/parley/server/storage"
)

// openPostgres connects, waiting a bounded time for PostgreSQL to come up, and brings the schema up to date.
func openPostgres(ctx context.Context, cfg PostgresConfig, log *slog.Logger) (*pgxpool.Pool, error) {
	pool, err := storage.OpenPool(ctx, cfg.URL, cfg.MaxConns)
	if err != nil {
		return nil, err
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
