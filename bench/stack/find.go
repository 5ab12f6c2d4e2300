package stack

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/bench/proc"
	"github.com/parley-im/parley/bench/report"
)

//go:embed sql/facts.sql
var factsSQL string

// Facts are what a figure depends on in PostgreSQL.
type Facts struct {
	Version           string `json:"version"`
	Fsync             string `json:"fsync"`
	SynchronousCommit string `json:"synchronous_commit"`
	SharedBuffers     string `json:"shared_buffers"`
	backend           int
	local             bool
}

// PostgresFacts asks PostgreSQL.
func PostgresFacts(ctx context.Context, url string) (f Facts, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return f, err
	}
	err = conn.QueryRow(ctx, factsSQL).Scan(&f.Version, &f.Fsync, &f.SynchronousCommit, &f.SharedBuffers, &f.backend, &f.local)
	if err == nil && f.local {
		// The backend's parent is to be found while the connection is open.
		f.backend, f.local = parentNamed(f.backend, "postgres")
	}
	return f, errors.Join(err, conn.Close(ctx))
}

// postmaster returns the process that all backends are children of, 0 if it is not on this machine.
func postmaster(ctx context.Context, url string) (int, error) {
	f, err := PostgresFacts(ctx, url)
	if err != nil || !f.local {
		return 0, err
	}
	return f.backend, nil
}

// parentNamed returns a process's parent if both carry a name: the same number may be somebody else on this machine.
func parentNamed(pid int, name string) (int, bool) {
	parent, err := proc.Parent(pid)
	if err != nil || !named(pid, name) || !named(parent, name) {
		return 0, false
	}
	return parent, true
}

func named(pid int, name string) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return err == nil && strings.Contains(string(text), name)
}

// redisPID returns Redis's process, 0 if it is not on this machine.
func redisPID(ctx context.Context, url string) (int, error) {
	info, err := redisInfo(ctx, url)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(info["process_id"])
	if err != nil || (!named(pid, "redis") && !named(pid, "valkey")) {
		return 0, nil //nolint:nilerr // a Redis that does not say it is not counted
	}
	return pid, nil
}

// redisInfo returns what Redis says of itself.
func redisInfo(ctx context.Context, url string) (map[string]string, error) {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(opts)
	defer client.Close() //nolint:errcheck // nothing is left to send
	text, err := client.Info(ctx, "server").Result()
	if err != nil {
		return nil, err
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[k] = v
		}
	}
	return info, nil
}

// Describe adds what is known of PostgreSQL and Redis to a machine's description.
func (s *Stack) Describe(ctx context.Context, m *report.Machine) error {
	if s.cfg.PostgresURL != "" {
		f, err := PostgresFacts(ctx, s.cfg.PostgresURL)
		if err != nil {
			return err
		}
		m.Postgres = f.Version
		m.Durable = "fsync " + f.Fsync + ", synchronous_commit " + f.SynchronousCommit + ", shared_buffers " + f.SharedBuffers
	}
	if s.cfg.RedisURL == "" {
		return nil
	}
	info, err := redisInfo(ctx, s.cfg.RedisURL)
	m.Redis = info["redis_version"]
	return err
}
