package dev_test

import (
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev"
)

// A checkout in root's home is the usual case: the user that PostgreSQL runs as cannot get there.
func TestPostgresOfRootInAClosedDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs PostgreSQL as another user")
	}
	closed := filepath.Join(openDir(t), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	dataDir := filepath.Join(closed, ".data")
	var log strings.Builder
	o := dev.PostgresOptions{DataDir: dataDir, Log: slog.New(slog.NewTextHandler(&log, nil))}

	p := startPostgres(t, o)
	place, err := os.ReadFile(filepath.Join(dataDir, "postgres.location"))
	require.NoError(t, err)
	elsewhere := strings.TrimSpace(string(place))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(elsewhere)) })
	require.Contains(t, log.String(), elsewhere, "where the data went is said")
	_, err = connect(t, p.URL()).Exec(t.Context(), "CREATE TABLE numbers (n int PRIMARY KEY); INSERT INTO numbers VALUES (1)")
	require.NoError(t, err)
	info, err := os.Stat(closed)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "somebody else's directory stays closed")

	// The next start finds the data and has nothing to say about it.
	stopPostgres(t, p)
	log.Reset()
	require.Equal(t, []int{1}, numbers(t, connect(t, startPostgres(t, o).URL())))
	require.NotContains(t, log.String(), "WARN")
}

// Root may start what an ordinary user made, and leaves it theirs.
func TestPostgresOfRootOnAnotherUsersData(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	dir := openDir(t)
	base := filepath.Join(dir, "postgres")
	require.NoError(t, os.Mkdir(base, 0o700))
	chown(t, base, nobody)
	p := startPostgres(t, dev.PostgresOptions{DataDir: dir})
	require.NoError(t, connect(t, p.URL()).Ping(t.Context()))
	stopPostgres(t, p)
	requireOwner(t, nobody, filepath.Join(base, "data"))
}
