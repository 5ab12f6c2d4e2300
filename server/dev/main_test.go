package dev_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev"
	"github.com/parley-im/parley/server/dev/testenv"
)

// patience bounds each step, far longer than any takes.
const patience = 3 * time.Minute

// helperDir, set in the environment, turns the test binary into the program of runHelper.
const helperDir = "PARLEY_DEV_TEST_HELPER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		if err := runHelper(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}

// runHelper starts both servers in dir, prints "started POSTGRES-PID REDIS-PID" and stays until it is killed.
func runHelper(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	postgres, err := dev.StartPostgres(ctx, dev.PostgresOptions{DataDir: dir})
	if err != nil {
		return err
	}
	redis, err := dev.StartRedis(ctx, dev.RedisOptions{DataDir: dir})
	if err != nil {
		return err
	}
	fmt.Println("started", postgres.PID(), redis.PID())
	<-ctx.Done()
	return ctx.Err()
}

// openDir returns a new directory that every user can enter; t.TempDir's parent is closed to others.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "parley-dev-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// slow keeps a test that creates a PostgreSQL, which takes seconds on a busy machine, out of the quick loop.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("creates a PostgreSQL of its own")
	}
}

func startPostgres(t *testing.T, o dev.PostgresOptions) *dev.Postgres {
	t.Helper()
	slow(t)
	p, err := dev.StartPostgres(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { stopPostgres(t, p) })
	return p
}

func stopPostgres(t *testing.T, p *dev.Postgres) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, p.Stop(ctx))
}

// gone tells whether no process pid runs. One that has ended but that nobody collected counts as gone.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

func chown(t *testing.T, path string, to *user.User) {
	t.Helper()
	uid, err := strconv.Atoi(to.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(to.Gid)
	require.NoError(t, err)
	require.NoError(t, os.Chown(path, uid, gid))
}

func requireOwner(t *testing.T, want *user.User, path string) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	st, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	require.Equal(t, want.Uid, strconv.FormatUint(uint64(st.Uid), 10))
}
