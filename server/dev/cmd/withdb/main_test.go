package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
)

func TestCommandGetsServersAndItsExitCodeIsKept(t *testing.T) {
	if testing.Short() {
		t.Skip("creates a PostgreSQL of its own")
	}
	t.Setenv(testenv.PostgresVariable, "")
	t.Setenv(testenv.RedisVariable, "redis://somewhere/0")
	said := filepath.Join(t.TempDir(), "said")
	var out strings.Builder
	code, err := run([]string{"sh", "-c", `printf '%s %s' "$PARLEY_TEST_POSTGRES_URL" "$PARLEY_TEST_REDIS_URL" >"$0"; exit 7`, said}, false, &out)
	if err != nil && strings.Contains(err.Error(), "missing") {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.Equal(t, 7, code)
	text, err := os.ReadFile(said)
	require.NoError(t, err)
	postgres, redis, _ := strings.Cut(string(text), " ")
	require.Equal(t, "redis://somewhere/0", redis, "a variable that was set is left alone")
	if out.Len() == 0 {
		require.True(t, strings.HasPrefix(postgres, "postgres://"), postgres)
	}
}

func TestSignalEndsTheCommand(t *testing.T) {
	t.Setenv(testenv.PostgresVariable, "postgres://somewhere/x")
	t.Setenv(testenv.RedisVariable, "redis://somewhere/0")
	code, err := run([]string{"sh", "-c", "kill -TERM $$"}, false, os.Stderr)
	require.NoError(t, err)
	require.Equal(t, 128+15, code)
}

func TestMissingServerIsALineOrInCIAnError(t *testing.T) {
	t.Setenv(testenv.PostgresVariable, "postgres://somewhere/x")
	t.Setenv(testenv.RedisVariable, "")
	t.Setenv("PARLEY_REDIS_BIN", "")
	t.Setenv("CI", "")
	t.Setenv("PATH", t.TempDir())
	var out strings.Builder
	code, err := run([]string{"/bin/sh", "-c", "exit 0"}, false, &out)
	require.NoError(t, err)
	require.Zero(t, code)
	require.Contains(t, out.String(), "redis-server is missing")
	require.Equal(t, 1, strings.Count(out.String(), "\n"))

	t.Setenv("CI", "true")
	_, err = run([]string{"/bin/sh", "-c", "exit 0"}, false, &out)
	require.ErrorContains(t, err, "redis-server is missing")
}
