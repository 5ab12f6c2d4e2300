package testenv_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/db"
	"github.com/parley-im/parley/server/dev/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	first := testenv.Postgres(t)
	_, err := first.Exec(t.Context(), "CREATE TABLE mine (n int)")
	require.NoError(t, err)

	begin := time.Now()
	second := testenv.Postgres(t)
	t.Logf("another database: %s", time.Since(begin))
	var mine, migrated bool
	require.NoError(t, second.QueryRow(t.Context(),
		"SELECT to_regclass('mine') IS NOT NULL, to_regclass('msg') IS NOT NULL").Scan(&mine, &migrated))
	require.False(t, mine)
	require.True(t, migrated)
}

func TestDatabasesAreDroppedAfterTheTest(t *testing.T) {
	var url string
	t.Run("inner", func(t *testing.T) {
		url = testenv.PostgresURL(t)
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		current, newest, err := db.Version(t.Context(), url)
		require.NoError(t, err)
		require.Equal(t, newest, current)
		require.False(t, conn.IsClosed(), "left open on purpose: a forgotten connection must not keep the database")
	})
	_, err := pgx.Connect(t.Context(), url)
	require.ErrorContains(t, err, "does not exist")
}

func TestEmptyDatabaseHasNoSchema(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), testenv.EmptyPostgresURL(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	var tables int
	require.NoError(t, conn.QueryRow(t.Context(),
		"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables))
	require.Zero(t, tables)
}

func TestRedisPrefixesDifferAndAreCleared(t *testing.T) {
	var url, first string
	t.Run("inner", func(t *testing.T) {
		url, first = testenv.Redis(t)
		client := open(t, url)
		require.NoError(t, client.Set(t.Context(), first+"key", "x", 0).Err())
		require.NoError(t, client.Set(t.Context(), "body:{"+first+"1}", "x", 0).Err())
	})
	_, second := testenv.Redis(t)
	require.NotEqual(t, first, second)
	require.Empty(t, open(t, url).Keys(t.Context(), "*"+first+"*").Val())
}

func open(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(opts)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func TestOwnServersCanBeKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("creates a PostgreSQL of its own")
	}
	postgres := testenv.OwnPostgres(t, nil)
	require.NoError(t, postgres.Kill())
	require.NoError(t, postgres.Restart(t.Context()))
	conn, err := pgx.Connect(t.Context(), postgres.TCPURL())
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	own := testenv.OwnRedis(t, map[string]string{"maxmemory": "8mb"})
	require.NoError(t, open(t, own.TCPURL()).FlushAll(t.Context()).Err())
}

func TestDirectoriesOfTheDeadAreRemoved(t *testing.T) {
	// No process has this number: the kernel's largest is 2^22.
	dead := filepath.Join(os.TempDir(), "parley-testenv-99999999-x")
	require.NoError(t, os.MkdirAll(dead, 0o700))
	alive := testenv.DataDir(t)
	require.NoDirExists(t, dead)
	testenv.DataDir(t)
	require.DirExists(t, alive)
}
