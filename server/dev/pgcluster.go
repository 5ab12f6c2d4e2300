package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// defaultSettings fit a developer's machine. Durability is PostgreSQL's default, which is on.
var defaultSettings = map[string]string{
	"cluster_name":    "parley",
	"max_connections": "200",
	"shared_buffers":  "128MB",
	// Fewer checkpoints under load than the default 1 GB gives, bounded all the same.
	"max_wal_size": "2GB",
	// Compiling a plan costs more than any of Parley's short statements.
	"jit":      "off",
	"timezone": "UTC",
	// The log must not hold what users wrote: neither values of a row in an error's detail nor statements.
	"log_error_verbosity":     "terse",
	"log_min_error_statement": "panic",
	"log_timezone":            "UTC",
}

// refusedSettings are not for callers to set: the first three would break the promise that what was acknowledged is
// kept, the others are this package's own.
var refusedSettings = map[string]bool{
	"fsync": true, "full_page_writes": true, "synchronous_commit": true,
	"data_directory": true, "listen_addresses": true, "port": true, "unix_socket_directories": true,
	"external_pid_file": true, "config_file": true, "hba_file": true,
}

var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_.]*$`)

// mergeSettings returns the defaults with own put over them.
func mergeSettings(own map[string]string) (map[string]string, error) {
	merged := maps.Clone(defaultSettings)
	for name, value := range own {
		if refusedSettings[name] || !settingName.MatchString(name) {
			return nil, fmt.Errorf("the PostgreSQL setting %q is not to be set here", name)
		}
		merged[name] = value
	}
	return merged, nil
}

// findBinaries sets p.binaries to programs that fit the data, if there is data already.
func (p *Postgres) findBinaries(ctx context.Context) (err error) {
	major := 0
	text, err := os.ReadFile(filepath.Join(p.dataDir(), "PG_VERSION"))
	switch {
	case err == nil:
		if major, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return fmt.Errorf("read the version of PostgreSQL's data: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the version of PostgreSQL's data: %w", err)
	}
	cache, err := p.cacheDir()
	if err != nil {
		return err
	}
	p.binaries, err = findPostgres(ctx, major, cache, p.as)
	return err
}

// cacheDir is where fetched programs go: the given one if the server's user can get there, else one of the server's own.
func (p *Postgres) cacheDir() (string, error) {
	own := filepath.Join(p.dir, "programs")
	if p.opts.CacheDir == "" {
		return own, nil
	}
	dir, err := makeDataDir(p.opts.CacheDir)
	if err != nil {
		return "", fmt.Errorf("prepare the directory for programs: %w", err)
	}
	blocked, err := p.as.canEnter(dir)
	if err != nil || blocked != "" {
		return own, err
	}
	return dir, nil
}

// initCluster creates the data if there is none yet, all or nothing: a half-made one is left under another name, which
// the next try removes. It reads the password, making one with new data.
func (p *Postgres) initCluster(ctx context.Context) error {
	secret := filepath.Join(p.dir, "password")
	if _, err := os.Stat(p.dataDir()); err == nil {
		text, err := os.ReadFile(secret)
		p.password = string(bytes.TrimSpace(text))
		return err
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p.password = rand.Text()
	if p.primary != nil {
		p.password = p.primary.password // roles are copied too
	}
	if err := os.WriteFile(secret, []byte(p.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := p.as.own(secret); err != nil {
		return err
	}
	unfinished := p.dataDir() + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	create := func() error { return p.initdb(ctx, unfinished, secret) }
	if p.primary != nil {
		create = func() error { return p.baseBackup(ctx, unfinished) }
	}
	if err := create(); err != nil {
		return err
	}
	return os.Rename(unfinished, p.dataDir())
}

func (p *Postgres) initdb(ctx context.Context, dir, secret string) error {
	// "C" is the one locale that every machine has, and bytes are how ids compare anyway.
	return p.runOnce(ctx, "initdb", "--pgdata="+dir, "--username="+pgUser, "--pwfile="+secret,
		"--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256")
}

// runOnce runs one of PostgreSQL's programs to its end.
func (p *Postgres) runOnce(ctx context.Context, name string, args ...string) error {
	cmd := exec.Command(p.binaries.command(name), args...) //nolint:gosec,noctx // found by us; waited for below
	cmd.Dir = p.dir
	cmd.Env = serverEnv(p.dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	run, err := startChild(cmd, p.as, syscall.SIGKILL)
	if err != nil {
		return err
	}
	if err := run.wait(ctx); err != nil {
		err = errors.Join(err, run.signal(syscall.SIGTERM))
		<-run.exited
		return err
	}
	if run.err != nil {
		return fmt.Errorf("%s: %w: %s", name, run.err, lastLines(said.Bytes(), 5))
	}
	return nil
}
