package db

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"

	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	// RiverSchema is where the tables of the job queue live. Migration 8 makes it.
	RiverSchema = "river"
	// riverMigration is the number of the migration that makes River's tables, and riverVersion up to which of River's own
	// migrations it goes. A release of River that brings more gets another migration here.
	riverMigration = 9
	riverVersion   = 8
)

// riverTables is migration 9: the job queue's own migrations, as the library brings them. Each commits by itself, and what
// was done is left alone, so one that failed half-way goes on.
func riverTables() *goose.Migration {
	return goose.NewGoMigration(riverMigration,
		&goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
			return migrateRiver(ctx, db, rivermigrate.DirectionUp, riverVersion)
		}},
		&goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
			return migrateRiver(ctx, db, rivermigrate.DirectionDown, -1)
		}})
}

func migrateRiver(ctx context.Context, db *sql.DB, way rivermigrate.Direction, to int) error {
	m, err := rivermigrate.New(riverdatabasesql.New(db), &rivermigrate.Config{Schema: RiverSchema,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("river: %w", err)
	}
	if _, err := m.Migrate(ctx, way, &rivermigrate.MigrateOpts{TargetVersion: to}); err != nil {
		return fmt.Errorf("river: %w", err)
	}
	return nil
}
