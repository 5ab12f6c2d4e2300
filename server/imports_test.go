package server_test

import (
	"go/build"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module is the path that the imports of this repository start with.
const module = "github.com/parley-im/parley/"

// What layers may not see of each other, by prefix of the import path.
var (
	protocol  = []string{"connectrpc.com/", "google.golang.org/grpc", module + "gen/parley/v1/parleyv1connect"}
	transport = []string{module + "server/rpc"}
	sql       = []string{"github.com/jackc/pgx", "database/sql", module + "gen/sqlc", module + "db"}
	redis     = []string{"github.com/redis/", "github.com/alicebob/"}
	adapters  = []string{module + "server/storage"}
	// root is what puts the parts together, and what only runs or tests it.
	root = []string{module + "server/app", module + "server/cmd", module + "server/dev"}
)

// layer is a group of packages below server/ and what they must not import. Tests are free: they put things together.
type layer struct {
	name      string
	packages  []string // folders below server/; their subfolders count too
	forbidden [][]string
}

// layers: every folder below server/ is in one of them, except those in anything.
var layers = []layer{
	{
		name: "domain",
		packages: []string{
			"account", "device", "message", "page", "presence", "refusal", "relation", "session", "state",
		},
		forbidden: [][]string{protocol, transport, sql, redis, adapters, root},
	},
	{
		// Free to use the protocol's library: the codecs that pass encoded entries through are its plug-ins.
		name:      "delivery",
		packages:  []string{"breaker", "committer", "feed", "hints", "hub", "rate", "roster", "statecache", "stream", "webhook", "wire"},
		forbidden: [][]string{transport, sql, adapters, root},
	},
	{name: "transport", packages: []string{"rpc"}, forbidden: [][]string{sql, redis, adapters, root}},
	{name: "adapters", packages: []string{"storage"}, forbidden: [][]string{protocol, transport, root}},
}

// mayImportAll are the folders that put everything together, to run it or to test it whole.
var mayImportAll = []string{"app", "bench", "cmd", "dev", "e2e"}

// TestImportsPointInwards keeps the direction of dependencies: transport and adapters know the domain, the domain knows
// neither, and only the composition root knows all.
func TestImportsPointInwards(t *testing.T) {
	t.Parallel()
	for _, dir := range packageDirs(t) {
		forbidden := forbiddenIn(dir)
		for _, path := range importsOf(t, dir) {
			if under(path, forbidden) {
				t.Errorf("server/%s imports %s", dir, path)
			}
		}
	}
}

// TestImportRulesAreAlive fails when a rule names a folder that is gone, which would leave its successor unguarded.
func TestImportRulesAreAlive(t *testing.T) {
	t.Parallel()
	dirs := packageDirs(t)
	for _, l := range layers {
		for _, name := range l.packages {
			require.True(t, slices.ContainsFunc(dirs, func(dir string) bool { return within(dir, name) }),
				"layer %s names server/%s, which has no Go files", l.name, name)
		}
	}
}

// forbiddenIn returns the import prefixes that are forbidden in a folder below server/. A folder that no layer names is
// a part of the server like any other: the composition root is closed to it.
func forbiddenIn(dir string) []string {
	for _, l := range layers {
		if slices.ContainsFunc(l.packages, func(name string) bool { return within(dir, name) }) {
			return slices.Concat(l.forbidden...)
		}
	}
	if slices.ContainsFunc(mayImportAll, func(name string) bool { return within(dir, name) }) {
		return nil
	}
	return root
}

// packageDirs returns the folders below server/ that hold Go files, with forward slashes.
func packageDirs(t *testing.T) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if dir := filepath.ToSlash(filepath.Dir(path)); strings.HasSuffix(path, ".go") && dir != "." && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		return nil
	})
	require.NoError(t, err)
	return dirs
}

// importsOf returns what the Go files of a folder import, tests left out, whatever system they are built for.
func importsOf(t *testing.T, dir string) []string {
	t.Helper()
	context := build.Default
	context.UseAllFiles = true
	pkg, err := context.ImportDir(filepath.FromSlash(dir), 0)
	if _, only := err.(*build.NoGoError); only { //nolint:errorlint // ImportDir returns it bare
		return nil
	}
	require.NoError(t, err)
	return pkg.Imports
}

func under(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return path == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
	})
}

// within tells whether dir is the folder name or below it.
func within(dir, name string) bool { return dir == name || strings.HasPrefix(dir, name+"/") }
