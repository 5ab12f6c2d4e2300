package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parley-im/parley/db"
)

// templateLock is the advisory lock that is held while the template is made: the bytes "testenv" as a number.
const templateLock = 0x74657374656e76

// maxPoolConns is the size of a pool of Postgres. They are opened when needed, and the server has 500.
const maxPoolConns = 16

// Postgres returns a pool on a migrated database of this test's own. Both are gone after the test; connections that
// the test did not give back by then fail it.
func Postgres(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	config, err := pgxpool.ParseConfig(PostgresURL(tb))
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	config.MaxConns = maxPoolConns
	ctx, cancel := step()
	defer cancel()
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		tb.Fatalf("testenv: open a pool: %v", err)
	}
	tb.Cleanup(func() { closePool(tb, pool) })
	return pool
}

// PostgresURL returns the URL of a migrated database of this test's own, for tests that open pools or start servers
// themselves. It is dropped after the test, connections or not.
func PostgresURL(tb testing.TB) string {
	tb.Helper()
	server, err := shared.postgresURL()
	if err != nil {
		unavailable(tb, err)
	}
	template, err := ready.template(server)
	if err != nil {
		tb.Fatalf("testenv: make the template database: %v", err)
	}
	return makeDatabase(tb, server, " TEMPLATE "+template)
}

// EmptyPostgresURL returns the URL of an empty database of this test's own, for tests of the migrations.
func EmptyPostgresURL(tb testing.TB) string {
	tb.Helper()
	server, err := shared.postgresURL()
	if err != nil {
		unavailable(tb, err)
	}
	return makeDatabase(tb, server, "")
}

// makeDatabase makes a database on server, drops it after the test, and returns its URL.
func makeDatabase(tb testing.TB, server, clause string) string {
	tb.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	if err := maintain(server, "CREATE DATABASE "+name+clause); err != nil {
		tb.Fatalf("testenv: make a database: %v", err)
	}
	tb.Cleanup(func() {
		if err := maintain(server, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("testenv: drop a database: %v", err)
		}
	})
	address, err := withDatabase(server, name)
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	return address
}

// templates remembers that the template was made or found on a server, so that it is looked for once per process.
type templates struct {
	mu   sync.Mutex
	made map[string]bool // by the server's URL
}

var ready templates

// template returns the name of a migrated database on server that can be cloned, making it if it is missing.
func (r *templates) template(server string) (string, error) {
	name := "parley_template_" + db.Hash()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made[server] {
		return name, nil
	}
	if err := makeTemplate(server, name); err != nil {
		return "", err
	}
	if r.made == nil {
		r.made = make(map[string]bool)
	}
	r.made[server] = true
	return name, nil
}

// makeTemplate makes the database name on server and migrates it, unless another process did or does. It gets its name
// only when it is complete.
func makeTemplate(server, name string) error {
	ctx, cancel := step()
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // ends the session and with it the lock
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return err
	}
	var exists bool
	const look = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
	if err := conn.QueryRow(ctx, look, name).Scan(&exists); err != nil || exists {
		return err
	}
	unfinished := name + "_new"
	address, err := withDatabase(server, unfinished)
	if err != nil {
		return err
	}
	// Outside a transaction and one by one, as CREATE DATABASE has to be.
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + unfinished, "CREATE DATABASE " + unfinished} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	if err := db.Migrate(ctx, address); err != nil {
		return err
	}
	// Without connections to it, cloning it can never fail because somebody uses it.
	if _, err := conn.Exec(ctx, "ALTER DATABASE "+unfinished+" ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+unfinished+" RENAME TO "+name)
	return err
}

// maintain runs one statement on server outside any transaction.
func maintain(server, statement string) error {
	ctx, cancel := step()
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// withDatabase returns server's URL with another database's name in it.
func withDatabase(server, name string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", fmt.Errorf("%s is not a URL of the form postgres://", PostgresVariable) // it may hold a password
	}
	u.Path = "/" + name
	return u.String(), nil
}

// closePool closes pool, and fails the test instead of waiting for ever if connections are still out.
func closePool(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-closed:
	case <-ctx.Done():
		tb.Errorf("testenv: %d connections of the pool are still in use after the test", pool.Stat().AcquiredConns())
	}
}
