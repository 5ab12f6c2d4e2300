package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pollEvery is how often a starting server is asked whether it answers: small against its 60 ms.
	pollEvery = 10 * time.Millisecond
	// maxLog is the size in bytes at which a start sets postgres.log aside as postgres.log.old, which it replaces.
	maxLog = 8 << 20
)

// errBusy means that the remains of an earlier server still hold the data.
var errBusy = errors.New("the data is in use")

// start runs the server and returns when it answers; mu is held, or p not shared yet. A server killed a moment ago may
// hold the data for some time yet, so that is tried again for busyPatience.
func (p *Postgres) start(ctx context.Context) error {
	deadline := time.Now().Add(busyPatience)
	for {
		err := p.startOnce(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errBusy) || time.Now().After(deadline) {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
		if err := pause(ctx, 10*pollEvery); err != nil {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
	}
}

func (p *Postgres) startOnce(ctx context.Context) error {
	if err := p.checkLockFile(); err != nil {
		return err
	}
	log, from, err := p.openLog()
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the server has its own descriptor
	// SIGQUIT is PostgreSQL's immediate shutdown: all its processes end at once, none is left behind.
	server, err := startChild(p.command(log), p.as, syscall.SIGQUIT)
	if err != nil {
		return err
	}
	p.server = server
	if err := p.await(ctx); err != nil {
		if server.running() {
			return errors.Join(err, p.kill())
		}
		said := p.logSince(from)
		if bytes.Contains(said, []byte("shared memory block")) || bytes.Contains(said, []byte("lock file")) {
			return fmt.Errorf("%w: %s", errBusy, lastLines(said, 3))
		}
		return fmt.Errorf("%w: %s", err, lastLines(said, 6))
	}
	return nil
}

// await returns when the server that was started, and no other one, answers and has the database.
func (p *Postgres) await(ctx context.Context) error {
	for {
		err := p.greet(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.server.exited:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), err)
		case <-time.After(pollEvery):
		}
	}
}

// greet connects once, sees that the answer came from the child, and makes the database if it is missing.
func (p *Postgres) greet(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.urlOf("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was left to send
	if pid, err := p.lockPID(); err != nil || pid != p.server.pid {
		return fmt.Errorf("another server (process %d) answers in its place", pid)
	}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", pgDatabase).
		Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{pgDatabase}.Sanitize())
	return err
}

// checkLockFile looks at who holds the data. A live PostgreSQL means errBusy. A process that is something else got the
// number of a dead server, as happens after the restart of a container; PostgreSQL would take it for its own and
// refuse for ever, so the file goes.
func (p *Postgres) checkLockFile() error {
	pid, err := p.lockPID()
	if err != nil || pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil //nolint:nilerr // no file or a stale one, which PostgreSQL itself replaces
	}
	name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil || strings.HasPrefix(string(name), "postgres") {
		return fmt.Errorf("%w by process %d: stop what runs it, or use another data directory", errBusy, pid)
	}
	return os.Remove(filepath.Join(p.dataDir(), "postmaster.pid"))
}

// lockPID returns the process id in the data directory's lock file, which is its first line.
func (p *Postgres) lockPID() (int, error) {
	text, err := os.ReadFile(filepath.Join(p.dataDir(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}

// openLog opens the server's log for appending and returns its present size.
func (p *Postgres) openLog() (*os.File, int64, error) {
	path := p.logPath()
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, 0, err
		}
		info, err = nil, fs.ErrNotExist
	}
	var size int64
	switch {
	case err == nil:
		size = info.Size()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, 0, err
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return log, size, err
}

func (p *Postgres) logPath() string { return filepath.Join(p.dir, "postgres.log") }

// logSince returns what the log got after its first from bytes; nothing if it cannot be read.
func (p *Postgres) logSince(from int64) []byte {
	text, err := os.ReadFile(p.logPath())
	if err != nil || int64(len(text)) < from {
		return nil
	}
	return text[from:]
}

// Ports are looked for from firstPort on, below those that the kernel gives to outgoing connections (Linux: from 32768):
// a server that is killed and started again finds its own still free however many connections are made meanwhile.
const (
	firstPort = 10_000
	endPort   = 32_768
)

// FreePort returns a port of 127.0.0.1 that nobody listens on at this moment, at random, so that programs that look at the
// same time find different ones.
func FreePort(ctx context.Context) (int, error) {
	var last error
	for range 100 {
		port := firstPort + rand.IntN(endPort-firstPort) //nolint:gosec // no secret
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("find a free port: %w", last)
}

// pause waits for d or until ctx ends, whose cause it then returns.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
