// Package stack runs what the bench measures: PostgreSQL with fsync, Redis, and the server as a process of its own.
package stack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/bench/proc"
	"github.com/parley-im/parley/server/dev"
)

// Config says what to run. What is named by a URL is used as it is; the rest is started.
type Config struct {
	// Program is the parley program, which is the server and the bare servers too.
	Program string
	// Dir holds the data; made if missing.
	Dir         string
	PostgresURL string
	RedisURL    string
	// Addr and AdminKey name a server that runs already. Then nothing is started, and nothing can be restarted.
	Addr     string
	AdminKey string
	Log      *slog.Logger
}

// Stack is what is measured. Not safe for concurrent use.
type Stack struct {
	cfg      Config
	postgres *dev.Postgres
	redis    *dev.Redis
	settings map[string]string
	owned    bool // the server is started here

	cmd *exec.Cmd
	end chan struct{}
	ops string
	log *os.File

	// PIDs are the processes whose time is counted, 0 where they are not of this machine.
	PIDs PIDs
}

// PIDs are processes.
type PIDs struct{ Server, Postgres, Redis int }

// Start starts what Config does not name.
func Start(ctx context.Context, cfg Config) (_ *Stack, err error) {
	s := &Stack{cfg: cfg, owned: cfg.Addr == ""}
	if cfg.Addr != "" {
		return s, s.locate(ctx)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if s.cfg.AdminKey == "" {
		s.cfg.AdminKey = rand.Text() + rand.Text()
	}
	if s.cfg.PostgresURL == "" {
		s.postgres, err = dev.StartPostgres(ctx, dev.PostgresOptions{DataDir: cfg.Dir, Log: cfg.Log, Settings: map[string]string{
			"max_connections": "300", "shared_buffers": "512MB", "max_wal_size": "4GB"}})
		if err != nil {
			return nil, err
		}
		s.cfg.PostgresURL = s.postgres.URL()
	}
	if s.cfg.RedisURL == "" {
		s.redis, err = dev.StartRedis(ctx, dev.RedisOptions{DataDir: cfg.Dir, Log: cfg.Log, RequireServer: true,
			Settings: map[string]string{"maxmemory": "1gb"}})
		if err != nil {
			return nil, err
		}
		s.cfg.RedisURL = s.redis.URL()
	}
	return s, s.Serve(ctx, nil)
}

// Owned reports whether the server was started here, and so can be restarted with other settings.
func (s *Stack) Owned() bool { return s.owned }

// Addr is the server's address, host:port.
func (s *Stack) Addr() string { return s.cfg.Addr }

// AdminKey is the server's admin key.
func (s *Stack) AdminKey() string { return s.cfg.AdminKey }

// PostgresURL is where the server's database is; "" if that is not known.
func (s *Stack) PostgresURL() string { return s.cfg.PostgresURL }

// Program is the parley program.
func (s *Stack) Program() string { return s.cfg.Program }

// FlushRedis empties the Redis that was started here. One that somebody else started is left alone.
func (s *Stack) FlushRedis(ctx context.Context) error {
	if s.redis == nil {
		return errors.New("only a Redis of the bench's own is emptied")
	}
	opts, err := redis.ParseURL(s.cfg.RedisURL)
	if err != nil {
		return err
	}
	client := redis.NewClient(opts)
	defer client.Close() //nolint:errcheck // nothing is left to send
	return client.FlushAll(ctx).Err()
}

// OwnRedis reports whether Redis was started here.
func (s *Stack) OwnRedis() bool { return s.redis != nil }

// Serve starts the server, or starts it again if it runs: with settings over the defaults, as environment variables. An
// empty PARLEY_REDIS_URL means no Redis. With the settings that it runs with already, nothing is done.
func (s *Stack) Serve(ctx context.Context, settings map[string]string) error {
	if !s.Owned() {
		return errors.New("the server was not started by the bench, so it cannot be restarted with other settings")
	}
	if s.cmd != nil && maps.Equal(s.settings, settings) {
		return nil
	}
	return s.Restart(ctx, settings)
}

// Restart is Serve, always with a new process.
func (s *Stack) Restart(ctx context.Context, settings map[string]string) error {
	if err := s.stopServer(); err != nil {
		return err
	}
	s.settings = maps.Clone(settings)
	api, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	if s.ops, err = freeAddr(ctx); err != nil {
		return err
	}
	if s.log == nil {
		if s.log, err = os.OpenFile(filepath.Join(s.cfg.Dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return err
		}
	}
	env := map[string]string{"PATH": os.Getenv("PATH"), "HOME": os.Getenv("HOME"), "PARLEY_LISTEN": api, "PARLEY_ADMIN_LISTEN": s.ops,
		"PARLEY_POSTGRES_URL": s.cfg.PostgresURL, "PARLEY_REDIS_URL": s.cfg.RedisURL, "PARLEY_ADMIN_KEY": s.cfg.AdminKey,
		"PARLEY_SIGNING_KEY": filepath.Join(s.cfg.Dir, "signing.pem"), "PARLEY_LOG_LEVEL": "warn", "PARLEY_DATA_DIR": s.cfg.Dir, "PARLEY_DRAIN_GRACE": "0s"}
	maps.Copy(env, settings)
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.cfg.Program, "serve") //nolint:gosec // our own program
	for _, name := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, name+"="+env[name])
	}
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	end := make(chan struct{})
	go func() { _ = cmd.Wait(); close(end) }() // how it ended is in its log
	s.cmd, s.end, s.cfg.Addr = cmd, end, api
	if err := s.awaitReady(ctx); err != nil {
		return err
	}
	return s.locate(ctx)
}

func freeAddr(ctx context.Context) (string, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// readyPatience is how long a server may take to start: loading a map of many millions of relations is part of it.
const readyPatience = 5 * time.Minute

// stopPatience bounds the end of one that was started, which takes a second where the machine is not busy.
const stopPatience = 2 * time.Minute

func (s *Stack) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	for !s.ready(ctx) {
		select {
		case <-s.end:
			return fmt.Errorf("the server ended at once; its log is %s", s.log.Name())
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (s *Stack) ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.ops+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close()) == nil && res.StatusCode == http.StatusOK
}

// locate finds the processes whose time is counted.
func (s *Stack) locate(ctx context.Context) error {
	s.PIDs = PIDs{}
	if s.cmd != nil {
		s.PIDs.Server = s.cmd.Process.Pid
	} else if addr, err := net.ResolveTCPAddr("tcp", s.cfg.Addr); err != nil {
		return err
	} else if addr.IP.IsLoopback() {
		s.PIDs.Server = proc.Listener(addr.Port)
	}
	if s.cfg.PostgresURL != "" {
		pid, err := postmaster(ctx, s.cfg.PostgresURL)
		if err != nil {
			return err
		}
		s.PIDs.Postgres = pid
	}
	if s.cfg.RedisURL != "" {
		pid, err := redisPID(ctx, s.cfg.RedisURL)
		if err != nil {
			return err
		}
		s.PIDs.Redis = pid
	}
	return nil
}

func (s *Stack) stopServer() error {
	if s.cmd == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	var err error
	select {
	case <-s.end:
	case <-time.After(stopPatience):
		err = errors.Join(errors.New("the server did not end"), s.cmd.Process.Kill())
		<-s.end
	}
	s.cmd = nil
	return err
}

// Stop stops all that was started.
func (s *Stack) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	errs := []error{s.stopServer()}
	if s.redis != nil {
		errs = append(errs, s.redis.Stop(ctx))
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop(ctx))
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(errs...)
}
