// Command withdb runs another command with a PostgreSQL and a redis-server for tests:
//
//	withdb go test ./...
//
//	withdb -lasting go test ./...
//
// Both are fresh, live in a temporary directory and are gone afterwards. The command finds them by
// PARLEY_TEST_POSTGRES_URL and PARLEY_TEST_REDIS_URL; a variable that is set already is left alone and nothing is
// started for it. withdb ends with the command's exit code. A server that cannot be had is reported in one line, and
// the tests that need it will say that they are skipped; with CI=true that is an error.
//
// With -lasting their addresses are the same in every run, so that go test does not test again what has not changed since.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-im/parley/server/dev"
	"github.com/parley-im/parley/server/dev/testenv"
)

const (
	startPatience = 5 * time.Minute // fetching PostgreSQL's programs included
	stopPatience  = 5 * time.Minute // the last checkpoint writes what a whole run of tests left unwritten
	// exitFailed is the exit code for withdb's own failures, apart from go test's 1 and 2.
	exitFailed = 125
)

func main() {
	args := os.Args[1:]
	last := len(args) > 0 && args[0] == "-lasting"
	if last {
		args = args[1:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: withdb [-lasting] COMMAND [ARGUMENT...]")
		os.Exit(exitFailed)
	}
	code, err := run(args, last, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "withdb:", err)
		code = max(code, exitFailed)
	}
	os.Exit(code)
}

// run starts the servers, runs the command and stops them again. It returns the command's exit code.
// With last the servers' addresses are those of the last run.
func run(args []string, last bool, out io.Writer) (code int, err error) {
	// From here on a signal must not end this process before it has cleaned up.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	dir, err := testenv.MakeDir()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	env, stop, err := startServers(dir, last, out)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return 0, err
	}
	return runCommand(args, env, signals)
}

// startServers starts what no variable names yet and returns the environment for the command. stop is never nil.
func startServers(dir string, last bool, out io.Writer) (env []string, stop func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	env = os.Environ()
	var stops []func(context.Context) error
	stop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		var errs []error
		for _, stop := range stops {
			errs = append(errs, stop(ctx))
		}
		return errors.Join(errs...)
	}
	// missing turns a server that cannot be had into an error where nothing may go untested, else into a line.
	missing := func(err error) error {
		if os.Getenv("CI") == "true" {
			return err
		}
		_, err = fmt.Fprintln(out, "withdb: tests will be skipped:", err)
		return err
	}

	var started servers
	if os.Getenv(testenv.PostgresVariable) == "" {
		o := testenv.PostgresOptions(dir)
		o.Log = log
		if postgres, err := dev.StartPostgres(ctx, o); err == nil {
			stops = append(stops, postgres.Stop)
			started.postgres = postgres.URL()
		} else if err := missing(err); err != nil {
			return nil, stop, err
		}
	}
	if os.Getenv(testenv.RedisVariable) == "" {
		o := testenv.RedisOptions(dir)
		o.Log = log
		if redis, err := dev.StartRedis(ctx, o); err == nil {
			stops = append(stops, redis.Stop)
			started.redis = redis.URL()
		} else if err := missing(err); err != nil {
			return nil, stop, err
		}
	}
	if last {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, stop, err
		}
		addresses, release, err := lasting(ctx, cache, started)
		if err != nil {
			return nil, stop, fmt.Errorf("give the servers lasting addresses: %w", err)
		}
		stops = append(stops, func(context.Context) error { return release() })
		started = addresses
	}
	if started.postgres != "" {
		env = append(env, testenv.PostgresVariable+"="+started.postgres)
	}
	if started.redis != "" {
		env = append(env, testenv.RedisVariable+"="+started.redis)
	}
	return env, stop, nil
}

// runCommand runs the command with env, passes signals on to it, and returns its exit code: 128 and the signal's number
// if a signal ended it, as shells have it.
func runCommand(args, env []string, signals <-chan os.Signal) (int, error) {
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // running what it is told, until that ends, is its purpose
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = cmd.Process.Signal(sig) // it may have ended just now
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, err
			}
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return cmd.ProcessState.ExitCode(), nil
		}
	}
}
