package testenv

import (
	"os"
	"testing"

	"github.com/parley-im/parley/db"
	"github.com/parley-im/parley/server/dev"
)

// DataDir returns a directory for servers of the test's own, removed after it. Unlike t.TempDir every user can enter
// it, so that PostgreSQL can keep its data there when root runs the tests.
func DataDir(tb testing.TB) string {
	tb.Helper()
	dir, err := MakeDir()
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("testenv: %v", err)
		}
	})
	return dir
}

// OwnPostgres starts a server for this test alone, which may kill and restart it, with TCP on and its database
// migrated. It takes about a second and is stopped after the test. settings go over PostgresOptions's.
func OwnPostgres(tb testing.TB, settings map[string]string) *dev.Postgres {
	tb.Helper()
	o := PostgresOptions(DataDir(tb))
	o.TCP = true
	for name, value := range settings {
		o.Settings[name] = value
	}
	ctx, cancel := step()
	defer cancel()
	p, err := dev.StartPostgres(ctx, o)
	if err != nil {
		unavailable(tb, err)
	}
	tb.Cleanup(func() {
		ctx, cancel := step()
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			tb.Errorf("testenv: %v", err)
		}
	})
	if err := db.Migrate(ctx, p.URL()); err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	return p
}

// OwnRedis starts a redis-server for this test alone, which may flush, pause, kill and restart it, with TCP on and
// without persistence. It is stopped after the test. settings are those of redis.conf; nil means the defaults.
func OwnRedis(tb testing.TB, settings map[string]string) *dev.Redis {
	tb.Helper()
	o := RedisOptions(DataDir(tb))
	o.TCP = true
	o.Settings = settings
	ctx, cancel := step()
	defer cancel()
	r, err := dev.StartRedis(ctx, o)
	if err != nil {
		unavailable(tb, err)
	}
	tb.Cleanup(func() {
		ctx, cancel := step()
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			tb.Errorf("testenv: %v", err)
		}
	})
	return r
}
