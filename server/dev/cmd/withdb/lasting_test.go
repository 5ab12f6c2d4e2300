package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev"
	"github.com/parley-im/parley/server/dev/testenv"
)

func TestLastingAddressesAreTheSameForOtherServers(t *testing.T) {
	if testing.Short() {
		t.Skip("creates two PostgreSQL of its own")
	}
	cache, err := os.MkdirTemp("/tmp", "c") //nolint:usetesting // a socket in t.TempDir would have too long a path
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(cache)) })
	first, second := own(t), own(t)

	one, release, err := lasting(t.Context(), cache, first)
	require.NoError(t, err)
	require.NotEqual(t, first, one)
	answer(t, one, first)

	busy, nothing, err := lasting(t.Context(), cache, second)
	require.NoError(t, err)
	require.Equal(t, second, busy, "while another run has the addresses, one's own are used")
	require.NoError(t, nothing())

	require.NoError(t, release())
	two, release, err := lasting(t.Context(), cache, second)
	require.NoError(t, err)
	require.Equal(t, one, two)
	answer(t, two, second)
	require.NoError(t, release())

	alone, release, err := lasting(t.Context(), cache, servers{postgres: first.postgres})
	require.NoError(t, err)
	require.NotEqual(t, one.postgres, alone.postgres, "it tells what servers there are")
	require.Empty(t, alone.redis)
	require.NoError(t, release())

	long := filepath.Join(cache, "a-directory-with-so-long-a-name-that-no-socket-could-be-in-it-whatever-its-own-name-is-like")
	kept, release, err := lasting(t.Context(), long, alone)
	require.NoError(t, err)
	require.Equal(t, alone, kept)
	require.NoError(t, release())
	require.NoDirExists(t, long)
}

// own starts servers for this test, as withdb does.
func own(t *testing.T) servers {
	t.Helper()
	dir, ctx := testenv.DataDir(t), context.WithoutCancel(t.Context())
	r, err := dev.StartRedis(ctx, testenv.RedisOptions(dir))
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { require.NoError(t, r.Stop(ctx)) })
	p, err := dev.StartPostgres(ctx, testenv.PostgresOptions(dir))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop(ctx)) })
	return servers{postgres: p.URL(), redis: r.URL()}
}

// answer sees that the lasting addresses lead to those servers, and that they answer there.
func answer(t *testing.T, at, to servers) {
	t.Helper()
	require.Equal(t, dataOf(t, to.postgres), dataOf(t, at.postgres))
	direct, err := redis.ParseURL(to.redis)
	require.NoError(t, err)
	require.NoError(t, withRedis(at.redis, func(c *redis.Client) error {
		socket, err := filepath.EvalSymlinks(filepath.Dir(c.Options().Addr))
		require.NoError(t, err)
		require.Equal(t, filepath.Dir(direct.Addr), socket)
		return c.Ping(t.Context()).Err()
	}))
}

// dataOf returns where a server has its data.
func dataOf(t *testing.T, address string) (dir string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&dir))
	require.NoError(t, conn.Close(t.Context()))
	return dir
}
