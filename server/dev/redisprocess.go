package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RedisProcess is a redis-server with a configuration of the caller's own, for tests that need several which know each
// other: a cluster, or a master with replicas and sentinels. It listens on 127.0.0.1 without a password and keeps its
// address over Restart. Methods are safe for concurrent use, but for Restart.
type RedisProcess struct {
	program  string
	dir      string
	sentinel bool
	port     int
	server   *child
}

// ErrNoRedis says that there is no redis-server.
var ErrNoRedis = errors.New("redis-server is missing: install it (Debian: apt-get install redis-server) and set " +
	"PARLEY_REDIS_BIN to it if it is not on PATH")

// StartRedisProcess starts redis-server, or a sentinel, with these lines of redis.conf beside address, directory and no
// persistence. dir is its own. The error is ErrNoRedis where there is no redis-server.
func StartRedisProcess(ctx context.Context, dir string, sentinel bool, config ...string) (*RedisProcess, error) {
	p := &RedisProcess{dir: dir, sentinel: sentinel}
	var err error
	if p.program, err = findRedis(); err != nil {
		return nil, err
	}
	if p.program == "" {
		return nil, ErrNoRedis
	}
	if p.port, err = FreePort(ctx); err != nil {
		return nil, err
	}
	lines := append([]string{"port " + strconv.Itoa(p.port), "bind 127.0.0.1", "dir " + strconv.Quote(dir), "loglevel notice",
		"logfile " + strconv.Quote(filepath.Join(dir, "redis.log"))}, config...)
	if !sentinel {
		lines = append(lines, `save ""`, "appendonly no")
	}
	// A file of its own, since sentinels write to it.
	if err := os.WriteFile(p.config(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("configure Redis: %w", err)
	}
	return p, p.Restart(ctx)
}

func (p *RedisProcess) config() string { return filepath.Join(p.dir, "redis.conf") }

// Port is where it listens.
func (p *RedisProcess) Port() int { return p.port }

// Addr is host and port.
func (p *RedisProcess) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// Restart starts it (again) and returns when it takes connections.
func (p *RedisProcess) Restart(ctx context.Context) error {
	args := []string{p.config()}
	if p.sentinel {
		args = append(args, "--sentinel")
	}
	cmd := exec.Command(p.program, args...) //nolint:gosec,noctx // found by us; it outlives the call that starts it
	cmd.Dir, cmd.Env = p.dir, serverEnv(p.dir)
	var err error
	if p.server, err = startChild(cmd, account{}, syscall.SIGKILL); err != nil {
		return fmt.Errorf("start Redis: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.server.exited:
			said, _ := os.ReadFile(filepath.Join(p.dir, "redis.log")) // only to say more
			return fmt.Errorf("start Redis: it ended: %s", lastLines(said, 5))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start Redis: %w", err), p.Kill())
		case <-time.After(pollEvery):
		}
	}
}

// Kill ends it as a power cut would and returns when it is gone.
func (p *RedisProcess) Kill() error {
	if err := p.server.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill Redis: %w", err)
	}
	<-p.server.exited
	return nil
}

// Pause makes it mute: its connections stay, and nothing answers.
func (p *RedisProcess) Pause() error { return p.server.signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (p *RedisProcess) Resume() error { return p.server.signal(syscall.SIGCONT) }
