package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisSocket = "redis.sock"
	// redisPatience bounds one start of redis-server, which takes about 0.1 s where the machine is not busy.
	redisPatience = 2 * time.Minute
)

// ownRedisSettings are decided by this package; callers may not set them.
var ownRedisSettings = map[string]bool{
	"port": true, "bind": true, "dir": true, "unixsocket": true, "unixsocketperm": true, "requirepass": true,
	"daemonize": true, "supervised": true, "include": true, "loadmodule": true, "pidfile": true, "logfile": true,
}

func checkRedisSettings(settings map[string]string) error {
	for name := range settings {
		if ownRedisSettings[name] || strings.ContainsFunc(name, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') }) {
			return fmt.Errorf("the Redis setting %q is not to be set here", name)
		}
	}
	return nil
}

// Stop ends Redis and all that it holds. If redis-server has not ended when ctx does, it is killed and ctx's cause is
// returned. Stopping a stopped one does nothing.
func (r *Redis) Stop(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standIn != nil {
		r.standIn.Close()
		return nil
	}
	defer r.release()
	return r.stop(ctx)
}

// Kill ends Redis as a power cut would and returns when it is gone.
func (r *Redis) Kill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standIn != nil {
		r.standIn.Close()
		return nil
	}
	return r.kill()
}

// Pause makes redis-server neither answer nor fail, as a hung machine does, until Resume. The stand-in cannot do that.
func (r *Redis) Pause() error { return r.send(syscall.SIGSTOP) }

// Resume ends Pause.
func (r *Redis) Resume() error { return r.send(syscall.SIGCONT) }

func (r *Redis) send(sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standIn != nil {
		return errors.New("the in-process Redis cannot be paused")
	}
	return r.server.signal(sig)
}

// Restart stops Redis if it runs and starts it again, empty, with the same URLs.
func (r *Redis) Restart(ctx context.Context) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standIn != nil {
		r.standIn.Close()
		r.standIn.FlushAll()
		return r.standIn.Restart()
	}
	if err := r.stop(ctx); err != nil {
		return err
	}
	if r.unlock == nil { // stopped before
		if r.unlock, err = lockDir(r.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(r.sockets, 0o700); err != nil {
		return err
	}
	return r.start(ctx)
}

// stop is Stop of redis-server with mu held and the socket directory kept.
func (r *Redis) stop(ctx context.Context) error {
	// A paused server has to go on before it can end.
	if err := errors.Join(r.server.signal(syscall.SIGTERM), r.server.signal(syscall.SIGCONT)); err != nil {
		return fmt.Errorf("stop Redis: %w", err)
	}
	if err := r.server.wait(ctx); err != nil {
		return errors.Join(fmt.Errorf("stop Redis: %w", err), r.kill())
	}
	return nil
}

// kill is Kill of redis-server with mu held.
func (r *Redis) kill() error {
	if err := r.server.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill Redis: %w", err)
	}
	<-r.server.exited
	return nil
}

// release gives back what the server needed besides its memory: the directory's lock and a temporary socket directory.
func (r *Redis) release() {
	if r.ownsTemp {
		_ = os.RemoveAll(r.sockets) // a left-over in the temporary directory harms nobody
	}
	if r.unlock != nil {
		r.unlock()
		r.unlock = nil
	}
}

// start runs redis-server and returns when it answers; mu is held, or r not shared yet.
func (r *Redis) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, redisPatience, errors.New("it did not answer in time"))
	defer cancel()
	logPath := filepath.Join(r.dir, "redis.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start Redis: %w", err)
	}
	defer log.Close() //nolint:errcheck // the server has its own descriptor
	// The settings go in by standard input: a command line, and so the password, could be read by other users.
	cmd := exec.Command(r.program, "-") //nolint:gosec,noctx // found by us; it outlives the call that starts it
	cmd.Dir = r.dir
	cmd.Env = serverEnv(r.dir)
	cmd.Stdin = strings.NewReader(r.config())
	cmd.Stdout, cmd.Stderr = log, log
	if r.server, err = startChild(cmd, account{}, syscall.SIGKILL); err != nil {
		return fmt.Errorf("start Redis: %w", err)
	}
	if err := r.await(ctx); err != nil {
		err = errors.Join(err, r.kill())
		said, _ := os.ReadFile(logPath) // only to say more
		return fmt.Errorf("start Redis: %w: %s", err, lastLines(said, 5))
	}
	return nil
}

// config is redis.conf as text.
func (r *Redis) config() string {
	settings := map[string]string{
		"save": "", "appendonly": "no", "maxmemory": "256mb", "maxmemory-policy": "allkeys-lru", "loglevel": "warning",
	}
	maps.Copy(settings, r.opts.Settings)
	maps.Copy(settings, map[string]string{
		"port": strconv.Itoa(r.port), "bind": "127.0.0.1", "dir": r.dir, "requirepass": r.password,
		"unixsocket": filepath.Join(r.sockets, redisSocket), "unixsocketperm": "700",
	})
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s \"%s\"\n", name, escape.Replace(settings[name]))
	}
	return text.String()
}

// await returns when the server that was started, and no other one, answers.
func (r *Redis) await(ctx context.Context) error {
	for {
		err := r.greet(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-r.server.exited:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), err)
		case <-time.After(pollEvery):
		}
	}
}

// greet connects once and sees that the answer came from the child.
func (r *Redis) greet(ctx context.Context) error {
	// A plain connection first: the client library logs every refused one.
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.sockets, redisSocket))
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return err
	}
	opts, err := redis.ParseURL(r.URL())
	if err != nil {
		return err
	}
	client := redis.NewClient(opts)
	defer client.Close() //nolint:errcheck // nothing was left to send
	info, err := client.Info(ctx, "server").Bytes()
	if err != nil {
		return err
	}
	if !bytes.Contains(info, fmt.Appendf(nil, "process_id:%d\r", r.server.pid)) {
		return errors.New("another server answers in its place")
	}
	return nil
}
