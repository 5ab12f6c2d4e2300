package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/alicebob/miniredis/v2"
)

// Kinds of Redis.
const (
	// KindServer is a real redis-server, a child of this process.
	KindServer = "redis-server"
	// KindInProcess is the stand-in inside this process. It has no sharded pub/sub and slow scripts, so it serves one
	// node only.
	KindInProcess = "in-process"
)

// RedisOptions says where and how Redis runs. Only DataDir is needed.
type RedisOptions struct {
	// DataDir is where its socket and log are, in the subfolder "redis"; made if missing. No data is kept: Redis only
	// makes Parley fast, and starting empty is part of the bargain.
	DataDir string
	// Settings are settings of redis.conf, one value each, over the defaults (no persistence, 256 MB, allkeys-lru).
	// Addresses and paths are refused. The stand-in ignores them.
	Settings map[string]string
	// TCP makes redis-server listen on a free port of 127.0.0.1 too, with a password.
	TCP bool
	// RequireServer makes it an error if there is no redis-server, instead of using the stand-in.
	RequireServer bool
	// Log gets a line about what was started; nil means none.
	Log *slog.Logger
}

// Redis is a Redis that belongs to this process. Its methods are safe for concurrent use.
type Redis struct {
	opts     RedisOptions
	log      *slog.Logger
	program  string // "" for the stand-in
	dir      string
	sockets  string
	ownsTemp bool
	port     int // 0 without TCP
	password string
	standIn  *miniredis.Miniredis // nil for redis-server

	mu     sync.Mutex // held over starting and stopping
	server *child     // nil for the stand-in
	unlock func()     // gives the directory back; nil while it is not held
}

// StartRedis starts redis-server if PARLEY_REDIS_BIN names one or PATH has one (valkey-server will do), else the
// stand-in inside this process, and says so in one line. It returns when Redis answers. ctx bounds the start only.
func StartRedis(ctx context.Context, o RedisOptions) (_ *Redis, err error) {
	r := &Redis{opts: o, log: o.Log}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if err := checkRedisSettings(o.Settings); err != nil {
		return nil, err
	}
	r.password = rand.Text()
	if r.program, err = findRedis(); err != nil {
		return nil, err
	}
	if r.program == "" {
		return r, r.startStandIn(ctx)
	}
	dataDir, err := makeDataDir(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("prepare Redis's directory: %w", err)
	}
	r.dir = filepath.Join(dataDir, "redis")
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("prepare Redis's directory: %w", err)
	}
	if r.unlock, err = lockDir(r.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.release()
		}
	}()
	if o.TCP {
		if r.port, err = FreePort(ctx); err != nil {
			return nil, err
		}
	}
	if r.sockets, r.ownsTemp, err = socketDir(r.dir, redisSocket, account{}); err != nil {
		return nil, fmt.Errorf("make Redis's socket directory: %w", err)
	}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	r.log.InfoContext(ctx, "Redis runs", "kind", KindServer, "pid", r.server.pid, "dir", r.dir)
	return r, nil
}

// findRedis returns the path of redis-server, "" if there is none.
func findRedis() (string, error) {
	if path := os.Getenv("PARLEY_REDIS_BIN"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("PARLEY_REDIS_BIN: %w", err)
		}
		return path, nil
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", nil
}

// startStandIn starts the Redis inside this process, unless a server is required.
func (r *Redis) startStandIn(ctx context.Context) error {
	const missing = "redis-server is missing: install it (Debian: apt-get install redis-server) and set " +
		"PARLEY_REDIS_BIN to it if it is not on PATH, or set PARLEY_REDIS_URL to one that runs already"
	if r.opts.RequireServer {
		return errors.New(missing)
	}
	r.standIn = miniredis.NewMiniRedis()
	r.standIn.RequireAuth(r.password) // it listens on a port of the loopback address, which every local user can reach
	r.standIn.ClockTTL(true)
	if err := r.standIn.Start(); err != nil {
		return fmt.Errorf("start the in-process Redis: %w", err)
	}
	r.log.WarnContext(ctx, "no redis-server found; a stand-in inside this process is used, enough for one node",
		"kind", KindInProcess, "hint", missing)
	return nil
}

// Kind is KindServer or KindInProcess.
func (r *Redis) Kind() string {
	if r.standIn != nil {
		return KindInProcess
	}
	return KindServer
}

// URL is what a Redis client connects to: the Unix socket of redis-server, which this user and root may use, or the
// stand-in's port. It stays the same over Restart.
func (r *Redis) URL() string {
	if r.standIn != nil {
		return redisURL(r.standIn.Addr(), r.password)
	}
	u := url.URL{Scheme: "unix", User: url.UserPassword("", r.password), Path: filepath.Join(r.sockets, redisSocket)}
	return u.String()
}

// TCPURL leads to the same Redis over 127.0.0.1; "" if TCP was not asked for.
func (r *Redis) TCPURL() string {
	switch {
	case !r.opts.TCP:
		return ""
	case r.standIn != nil:
		return r.URL()
	default:
		return redisURL(net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)), r.password)
	}
}

func redisURL(addr, password string) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: addr, Path: "/0"}
	return u.String()
}

// PID is the process id of the running redis-server or of the last one; 0 for the stand-in.
func (r *Redis) PID() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return 0
	}
	return r.server.pid
}
