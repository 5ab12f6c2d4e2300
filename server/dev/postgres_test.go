package dev_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev"
)

// connect opens a connection to url that is closed with the test.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func setting(t *testing.T, conn *pgx.Conn, name string) string {
	t.Helper()
	var value string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&value))
	return value
}

func numbers(t *testing.T, conn *pgx.Conn) []int {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT n FROM numbers ORDER BY n")
	require.NoError(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	return got
}

func TestPostgresKeepsItsDataOverEveryEnd(t *testing.T) {
	dir := openDir(t)
	p := startPostgres(t, dev.PostgresOptions{
		DataDir: dir, TCP: true, Settings: map[string]string{"max_connections": "77"},
	})
	conn := connect(t, p.URL())
	require.Equal(t, "on", setting(t, conn, "fsync"))
	require.Equal(t, "on", setting(t, conn, "synchronous_commit"))
	require.Equal(t, "77", setting(t, conn, "max_connections"))
	_, err := conn.Exec(t.Context(), "CREATE TABLE numbers (n int PRIMARY KEY)")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "INSERT INTO numbers VALUES (1)")
	require.NoError(t, err)

	// Killed in the middle of things, with a connection open, it is back with the same URL and all that was committed.
	url, tcp, pid, exited := p.URL(), p.TCPURL(), p.PID(), p.Exited()
	require.NoError(t, p.Kill())
	<-exited
	require.True(t, gone(pid))
	require.Error(t, conn.Ping(t.Context()))
	require.NoError(t, p.Restart(t.Context()))
	require.NotEqual(t, pid, p.PID())
	require.Equal(t, url, p.URL())
	require.Equal(t, tcp, p.TCPURL())
	require.Equal(t, []int{1}, numbers(t, connect(t, url)))
	_, err = connect(t, tcp).Exec(t.Context(), "INSERT INTO numbers VALUES (2)")
	require.NoError(t, err)

	// Stopped in order, and started again: by Restart and as another process would.
	stopPostgres(t, p)
	require.True(t, gone(p.PID()))
	require.NoError(t, p.Restart(t.Context()))
	require.Equal(t, []int{1, 2}, numbers(t, connect(t, url)))
	stopPostgres(t, p)
	begin := time.Now()
	again := startPostgres(t, dev.PostgresOptions{DataDir: dir})
	t.Logf("start with data there: %s", time.Since(begin))
	require.Equal(t, []int{1, 2}, numbers(t, connect(t, again.URL())))
	require.Empty(t, again.TCPURL())
}

func TestPostgresOverTCPAsksForItsPassword(t *testing.T) {
	p := startPostgres(t, dev.PostgresOptions{DataDir: openDir(t), TCP: true})
	config, err := pgx.ParseConfig(p.TCPURL())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", config.Host)
	require.NotEmpty(t, config.Password)
	config.Password = "guess"
	_, err = pgx.ConnectConfig(t.Context(), config)
	require.ErrorContains(t, err, "password authentication failed")
}

func TestPostgresWithALongPathGetsAShortSocket(t *testing.T) {
	p := startPostgres(t, dev.PostgresOptions{DataDir: filepath.Join(openDir(t), strings.Repeat("long-", 25))})
	config, err := pgx.ParseConfig(p.URL())
	require.NoError(t, err)
	require.Less(t, len(config.Host), 80)
	require.NoError(t, connect(t, p.URL()).Ping(t.Context()))
	stopPostgres(t, p)
	require.NoDirExists(t, config.Host)
	require.NoError(t, p.Restart(t.Context()))
	require.NoError(t, connect(t, p.URL()).Ping(t.Context()))
}

func TestPostgresRefusesADirectoryInUse(t *testing.T) {
	dir := openDir(t)
	startPostgres(t, dev.PostgresOptions{DataDir: dir})
	_, err := dev.StartPostgres(t.Context(), dev.PostgresOptions{DataDir: dir})
	require.ErrorContains(t, err, "in use")
}

func TestPostgresRefusesSettingsThatLoseData(t *testing.T) {
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit", "port", "-c fsync"} {
		_, err := dev.StartPostgres(t.Context(), dev.PostgresOptions{
			DataDir: t.TempDir(), Settings: map[string]string{name: "off"},
		})
		require.ErrorContains(t, err, name)
	}
}

func TestPostgresSaysWhyItDoesNotStart(t *testing.T) {
	slow(t)
	_, err := dev.StartPostgres(t.Context(), dev.PostgresOptions{
		DataDir: openDir(t), Settings: map[string]string{"max_connections": "many"},
	})
	require.ErrorContains(t, err, "max_connections")

	t.Setenv("PARLEY_PG_BIN", t.TempDir())
	_, err = dev.StartPostgres(t.Context(), dev.PostgresOptions{DataDir: openDir(t)})
	require.ErrorContains(t, err, "PARLEY_PG_BIN")
}

func TestPostgresStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.DeadlineExceeded)
	_, err := dev.StartPostgres(ctx, dev.PostgresOptions{DataDir: openDir(t)})
	require.Error(t, err)
}

// After a restart of a container some other process has the number that the dead server had.
func TestPostgresStartsOverALockFileOfTheDead(t *testing.T) {
	dir := openDir(t)
	p := startPostgres(t, dev.PostgresOptions{DataDir: dir})
	lock := filepath.Join(dir, "postgres", "data", "postmaster.pid")
	text, err := os.ReadFile(lock)
	require.NoError(t, err)
	require.NoError(t, p.Kill())

	_, rest, _ := strings.Cut(string(text), "\n")
	require.NoError(t, os.WriteFile(lock, []byte(strconv.Itoa(os.Getppid())+"\n"+rest), 0o600))
	require.NoError(t, p.Restart(t.Context()))
	require.NoError(t, connect(t, p.URL()).Ping(t.Context()))
}
