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
// seen gets the epoch of every connection.
func openPostgres(ctx context.Context, cfg PostgresConfig, log *slog.Logger, seen func(epoch string) bool) (*pgxpool.Pool, error) {
	pool, err := storage.OpenWatchedPool(ctx, cfg.URL, cfg.MaxConns, seen)
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
	return warnUnsafe(ctx, pool, log)
}

// warnUnsafe says it in the log when PostgreSQL confirms what a crash could take back: Parley's OK is no more than
// PostgreSQL's.
func warnUnsafe(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	for setting, means := range map[string]string{
		"synchronous_commit": "PostgreSQL confirms commits before they are on disk, and so would Parley",
		"fsync":              "a crash of the machine may destroy the database",
	} {
		var value string
		if err := pool.QueryRow(ctx, "SHOW "+setting).Scan(&value); err != nil {
			return fmt.Errorf("read %s: %w", setting, err)
		}
		if value == "off" {
			log.WarnContext(ctx, "PostgreSQL is not set up to be durable", "setting", setting+" is off", "means", means)
		}
	}
	return nil
}
