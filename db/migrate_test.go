package db_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/parley-im/parley/db"
	"github.com/parley-im/parley/server/dev/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// objects lists what the schema of url consists of, beside the migrations' own table: tables with their columns,
// indexes, constraints, functions and triggers.
func objects(t *testing.T, url string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	rows, err := conn.Query(t.Context(), `
		SELECT o FROM (
			SELECT format('column %s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default)
			FROM information_schema.columns WHERE table_schema = 'public'
			UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
			UNION ALL SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid))
				FROM pg_constraint WHERE connamespace = 'public'::regnamespace
			UNION ALL SELECT 'function ' || pg_get_functiondef(oid)
				FROM pg_proc WHERE pronamespace = 'public'::regnamespace
			UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
		) AS all_objects (o) WHERE o NOT LIKE '%goose_db_version%' ORDER BY o`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

func requireVersion(t *testing.T, url string) {
	t.Helper()
	current, newest, err := db.Version(t.Context(), url)
	require.NoError(t, err)
	require.Positive(t, newest)
	require.Equal(t, newest, current)
}

func TestUpOnAnEmptyDatabase(t *testing.T) {
	url := testenv.EmptyPostgresURL(t)
	require.NoError(t, db.Migrate(t.Context(), url))
	requireVersion(t, url)
	once := objects(t, url)
	require.NotEmpty(t, once)

	require.NoError(t, db.Migrate(t.Context(), url), "there is nothing left to do")
	require.Equal(t, once, objects(t, url))
}

func TestUpDownUp(t *testing.T) {
	url := testenv.EmptyPostgresURL(t)
	require.NoError(t, db.Migrate(t.Context(), url))
	first := objects(t, url)

	require.NoError(t, db.MigrateDown(t.Context(), url, 0))
	require.Empty(t, objects(t, url), "down takes back all that up made")

	require.NoError(t, db.Migrate(t.Context(), url))
	requireVersion(t, url)
	require.Equal(t, first, objects(t, url))
}

func TestManyNodesMigrateAtOnce(t *testing.T) {
	url := testenv.EmptyPostgresURL(t)
	var nodes errgroup.Group
	for range 4 {
		nodes.Go(func() error { return db.Migrate(t.Context(), url) })
	}
	require.NoError(t, nodes.Wait())
	requireVersion(t, url)
}

// While nodes are upgraded one after the other, those of the former version restart on the newer schema.
func TestAnOlderNodeStartsOnANewerSchema(t *testing.T) {
	url := testenv.EmptyPostgresURL(t)
	require.NoError(t, db.Migrate(t.Context(), url))
	_, newest, err := db.Version(t.Context(), url)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	_, err = conn.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, true), ($2, true)", newest+1, newest+7)
	require.NoError(t, err)
	before := objects(t, url)

	require.NoError(t, db.Migrate(t.Context(), url))
	require.Equal(t, before, objects(t, url))
	current, known, err := db.Version(t.Context(), url)
	require.NoError(t, err)
	require.Equal(t, newest+7, current, "what a newer node did is not taken back")
	require.Equal(t, newest, known)
}

func TestMigrateErrorsKeepThePasswordSecret(t *testing.T) {
	const password = "correct-horse"
	for _, url := range []string{
		"postgres://parley:" + password + "@127.0.0.1:1/parley?connect_timeout=1",
		"postgres://parley:" + password + "@127.0.0.1:not-a-port/parley",
	} {
		err := db.Migrate(t.Context(), url)
		require.Error(t, err)
		require.NotContains(t, err.Error(), password)
	}
}

func TestHashIsStable(t *testing.T) {
	first := db.Hash()
	require.Regexp(t, "^[0-9a-f]{16}$", first)
	require.Equal(t, first, db.Hash())
}
