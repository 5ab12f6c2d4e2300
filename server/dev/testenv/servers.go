package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/parley-im/parley/server/dev"
)

// servers are those that this process started for its tests, each when it is first asked for.
type servers struct {
	mu       sync.Mutex
	dir      string // temporary; "" while nothing was started
	postgres *dev.Postgres
	redis    *dev.Redis
	// Why one cannot be had; kept, so that a hundred tests do not try a hundred times.
	postgresErr, redisErr error
}

var shared servers

// Close stops the servers that this process started for its tests, if any, and removes their data. Main calls it.
func Close() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	ctx, cancel := step()
	defer cancel()
	var errs []error
	if shared.postgres != nil {
		errs = append(errs, shared.postgres.Stop(ctx))
	}
	if shared.redis != nil {
		errs = append(errs, shared.redis.Stop(ctx))
	}
	if shared.dir != "" {
		errs = append(errs, os.RemoveAll(shared.dir))
	}
	shared.postgres, shared.redis, shared.dir = nil, nil, ""
	return errors.Join(errs...)
}

// postgresURL returns the URL of the server that databases are made on.
func (s *servers) postgresURL() (string, error) {
	if url := os.Getenv(PostgresVariable); url != "" {
		return url, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.postgres == nil && s.postgresErr == nil {
		s.postgres, s.postgresErr = s.startPostgres()
	}
	if s.postgresErr != nil {
		return "", s.postgresErr
	}
	return s.postgres.URL(), nil
}

func (s *servers) startPostgres() (*dev.Postgres, error) {
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	ctx, cancel := step()
	defer cancel()
	return dev.StartPostgres(ctx, PostgresOptions(s.dir))
}

// redisURL returns the URL of the redis-server that tests share.
func (s *servers) redisURL() (string, error) {
	if url := os.Getenv(RedisVariable); url != "" {
		return url, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.redis == nil && s.redisErr == nil {
		s.redis, s.redisErr = s.startRedis()
	}
	if s.redisErr != nil {
		return "", s.redisErr
	}
	return s.redis.URL(), nil
}

func (s *servers) startRedis() (*dev.Redis, error) {
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	ctx, cancel := step()
	defer cancel()
	return dev.StartRedis(ctx, RedisOptions(s.dir))
}

// makeDir sets s.dir; s.mu is held.
func (s *servers) makeDir() (err error) {
	if s.dir == "" {
		s.dir, err = MakeDir()
	}
	return err
}

// PostgresOptions are those of a server that tests share: durable as in production, room for many pools.
func PostgresOptions(dataDir string) dev.PostgresOptions {
	o := dev.PostgresOptions{
		DataDir:  dataDir,
		Settings: map[string]string{"max_connections": "500", "shared_buffers": "256MB"},
	}
	if cache, err := os.UserCacheDir(); err == nil {
		o.CacheDir = filepath.Join(cache, "parley")
	}
	return o
}

// RedisOptions are those of a redis-server that tests share. The stand-in would not do: tests are about the real one.
func RedisOptions(dataDir string) dev.RedisOptions {
	return dev.RedisOptions{DataDir: dataDir, RequireServer: true}
}

const dirPrefix = "parley-testenv-"

// MakeDir makes a temporary directory that every user can enter, as PostgreSQL's user has to when root runs the tests;
// t.TempDir is closed to others. It also removes those whose makers were killed before they could. The caller removes
// the new one.
func MakeDir() (string, error) {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range left {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		pid, err := strconv.Atoi(id)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // another user's stays
		}
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix, os.Getpid()))
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}
