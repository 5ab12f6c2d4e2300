package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxSocketPath is how long the path of a Unix socket may be, in bytes: sun_path of unix(7) holds 108 with the
	// terminating zero.
	maxSocketPath = 107
	// elsewhereDir is where root keeps the data of a checkout that the user postgres cannot enter, such as one in
	// root's home. Made when needed; it outlives reboots, unlike the temporary directory.
	elsewhereDir = "/var/lib/parley"
	// elsewhereFile, in the data directory, holds the path of the directory that is used instead of "postgres" there.
	// Removing the data directory so forgets the database, as one expects.
	elsewhereFile = "postgres.location"
)

// placePostgres returns the directory that holds everything of PostgreSQL for dataDir, owned by the account that it
// runs as and closed to others, and that account. It is dataDir/postgres unless that account cannot get there: opening
// the directories on the way to everybody would be a decision of their owner, so another place is taken and said.
func placePostgres(ctx context.Context, dataDir string, log *slog.Logger) (string, account, error) {
	dataDir, err := makeDataDir(dataDir)
	if err != nil {
		return "", account{}, err
	}
	dir := filepath.Join(dataDir, "postgres")
	pointer := filepath.Join(dataDir, elsewhereFile)
	if text, err := os.ReadFile(pointer); err == nil {
		dir = strings.TrimSpace(string(text))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", account{}, err
	}
	as, err := postgresAccount(dir)
	if err != nil {
		return "", account{}, err
	}
	blocked, err := as.canEnter(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) { // where the pointer leads is gone, parent and all
		blocked, err = filepath.Dir(dir), nil
	}
	if err != nil {
		return "", account{}, err
	}
	if blocked != "" {
		if dir, err = makeElsewhere(dataDir, as); err != nil {
			return "", account{}, err
		}
		if err := os.WriteFile(pointer, []byte(dir+"\n"), 0o644); err != nil {
			return "", account{}, err
		}
		log.WarnContext(ctx, "PostgreSQL's user cannot enter the data directory; its data is kept elsewhere",
			"user", as.name, "closed_dir", blocked, "dir", dir)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", account{}, err
	}
	if err := as.own(dir); err != nil {
		return "", account{}, err
	}
	return dir, as, nil
}

// makeDataDir makes dir if it is missing and returns its path, absolute and free of symbolic links. It is open to
// others like any other folder, since user postgres has to get through; what is inside is closed where it matters.
func makeDataDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no data directory given")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// makeElsewhere makes a new directory that as can get to, for the data of dataDir: a temporary one if dataDir is
// temporary itself, else a lasting one.
func makeElsewhere(dataDir string, as account) (string, error) {
	if tmp, err := filepath.EvalSymlinks(os.TempDir()); err == nil {
		rel, err := filepath.Rel(tmp, dataDir)
		if blocked, enterErr := as.canEnter(tmp); errors.Join(err, enterErr) == nil && blocked == "" && filepath.IsLocal(rel) {
			return os.MkdirTemp(tmp, "parley-")
		}
	}
	if err := os.MkdirAll(elsewhereDir, 0o755); err != nil {
		return "", fmt.Errorf("make a directory that PostgreSQL's user can enter: %w", err)
	}
	return os.MkdirTemp(elsewhereDir, "postgres-")
}

// socketDir returns a directory for a socket called name: dir/run if the path fits, else a new temporary directory,
// which the caller removes in the end. It belongs to as and is closed to others.
func socketDir(dir, name string, as account) (path string, temporary bool, err error) {
	path = filepath.Join(dir, "run")
	if len(filepath.Join(path, name)) > maxSocketPath {
		tmp := os.TempDir()
		if blocked, err := as.canEnter(tmp); err != nil || blocked != "" || len(tmp) > 60 {
			tmp = "/tmp"
		}
		if path, err = os.MkdirTemp(tmp, "parley-"); err != nil {
			return "", false, err
		}
		temporary = true
	} else if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", false, err
	}
	return path, temporary, as.own(path)
}
