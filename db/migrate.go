// Package db holds the schema of Parley's database as numbered migrations and brings a database up to it.
//
// migrations/NNNNN_name.sql are read twice: by this package, which embeds and runs them (so a binary needs no files
// beside it), and by sqlc, which derives the query code's types from them. A migration that was released is never
// edited; a change of the schema is a new file.
//
// Any number of nodes may start at once: the migrations run under a PostgreSQL advisory lock, one node at a time, and
// the others find nothing left to do.
package db

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var files embed.FS

const (
	// lockID is the advisory lock that migrating nodes hold: the bytes "parley" as a number, so that it differs from
	// the default of other programs that migrate with the same library in the same database.
	lockID = 0x7061726c6579
	// lockTries is how often a node asks for the lock, once a second, before it gives up: 30 minutes, longer than the
	// longest migration should take, since the nodes that wait for one must not die meanwhile.
	lockTries = 30 * 60
	// unlockTries is how often giving the lock back is tried, once a second.
	unlockTries = 10
)

// Migrate brings the database at url up to the newest schema that this binary knows. It does nothing when the database
// is there already or further, so an older binary starts on a newer schema. Each migration commits by itself: after an
// error those before it stay, and the next call goes on from there.
//
// It waits up to 30 minutes for another node that is migrating. Errors name the migration; nothing in them is secret.
func Migrate(ctx context.Context, url string) error {
	return with(url, func(p *goose.Provider) error {
		// Nearly every start finds nothing to do and need not queue for the lock. An error here, such as two nodes
		// creating the version table at once, is settled under the lock.
		if pending, err := p.HasPending(ctx); err == nil && !pending {
			return nil
		}
		_, err := p.Up(ctx)
		return err
	})
}

// MigrateDown takes back every migration above version, newest first; 0 takes back all that Migrate made. It destroys
// data: meant for tests and for giving up a failed release.
func MigrateDown(ctx context.Context, url string, version int64) error {
	return with(url, func(p *goose.Provider) error {
		_, err := p.DownTo(ctx, version)
		return err
	})
}

// Version returns the version that the database at url is at, 0 when it has none, and the newest one that this binary
// knows.
func Version(ctx context.Context, url string) (current, newest int64, err error) {
	err = with(url, func(p *goose.Provider) error {
		current, newest, err = p.GetVersions(ctx)
		return err
	})
	return current, newest, err
}

// Hash identifies the set of migrations: 16 hexadecimal digits that change with any name or content. Tests name the
// database they clone by it.
func Hash() string {
	h := sha256.New()
	h.Write(fmt.Appendf(nil, "river %d ", riverVersion))
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(path)
		// The lengths keep a byte from moving between name and content unseen.
		h.Write(fmt.Appendf(nil, "%d %s %d ", len(path), path, len(content)))
		h.Write(content)
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("db: read embedded migrations: %v", err)) //nolint:forbidigo // what was embedded can be read
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// with runs do with a provider on one connection pool of its own, closed on return.
func with(url string, do func(*goose.Provider) error) (err error) {
	// The pool's parser, because the same URL configures the server's pools and may carry their pool_* parameters. It
	// leaves the password out of its errors.
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	// The statements of a migration are run once each: preparing them would cost a round trip and gain nothing.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	pool := stdlib.OpenDB(*config.ConnConfig)
	defer func() { err = errors.Join(err, pool.Close()) }()

	provider, err := newProvider(pool)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := do(provider); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func newProvider(pool *sql.DB) (*goose.Provider, error) {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(
		lock.WithLockID(lockID),
		lock.WithLockTimeout(1, lockTries),
		lock.WithUnlockTimeout(1, unlockTries),
	)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, pool, migrations,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(riverTables()))
}
