// Package testenv gives tests real PostgreSQL and Redis: mocks have no locks, no constraints and no crashes.
//
// # Servers
//
// All tests of a `go test ./...` run share one PostgreSQL and one redis-server if PARLEY_TEST_POSTGRES_URL and
// PARLEY_TEST_REDIS_URL name them, as they do under `make test`. Otherwise each package's test process starts servers of
// its own when the first test asks, which takes about a second. Such a package has
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// which stops them in the end. Without it they die with the process and leave a temporary directory, which a later run
// removes.
//
// If a server cannot be had, the test is skipped with a message that says what is missing, and fails where CI=true, so
// that nothing passes there by not being tested.
//
// # What a test gets
//
// Postgres and PostgresURL give a migrated database that no other test has: a clone, made in some 50 ms, of a template
// that is named by the migrations' hash and migrated once. Tests may so commit, listen and run in parallel. Redis gives
// the shared server and a key prefix of the test's own; a test never flushes it. A test that kills, pauses or flushes
// takes OwnPostgres or OwnRedis.
package testenv

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// PostgresVariable names the environment variable with the shared PostgreSQL's URL. Its role must be allowed to
	// create databases.
	PostgresVariable = "PARLEY_TEST_POSTGRES_URL"
	// RedisVariable names the environment variable with the shared redis-server's URL.
	RedisVariable = "PARLEY_TEST_REDIS_URL"
)

// patience bounds every single step: starting a server, making a database.
const patience = 2 * time.Minute

// Main runs a package's tests, stops the servers that they started, and fails if they passed but left goroutines
// behind. options say which goroutines to overlook. It does not return.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	for _, f := range atEnd {
		f()
	}
	if err := Close(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := Leaks(options...); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left after the tests:", err)
			code = 1
		}
	}
	os.Exit(code) //nolint:forbidigo // the main function of a test binary
}

// Leaks returns an error that names the goroutines that are left and do not end by themselves within patience: goleak's own
// second is not enough where what they wait for, such as the end of a process, takes that long on a busy machine.
func Leaks(options ...goleak.Option) (err error) {
	for end := time.Now().Add(patience); ; {
		if err = goleak.Find(options...); err == nil || time.Now().After(end) {
			return err
		}
	}
}

var atEnd []func()

// AtEnd makes Main run f after all tests. To be called before Main, which leaves the process without running what its
// caller deferred.
func AtEnd(f func()) { atEnd = append(atEnd, f) }

// unavailable ends the test because err keeps it from what it needs: as skipped, or as failed in CI.
func unavailable(tb testing.TB, err error) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatalf("needed for this test: %v", err)
	}
	tb.Skipf("needed for this test: %v", err)
}

// step returns a context for one step of setting up or cleaning up. It does not hang on the test's own, which has ended
// when clean-ups run.
func step() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("not done within %s", patience))
}
