package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Redis returns the URL of a redis-server that other tests use at the same time, and a prefix for the keys and channels
// of this test; keys with it are removed after the test. Never flush it: OwnRedis is for that.
func Redis(tb testing.TB) (url, prefix string) {
	tb.Helper()
	url, err := shared.redisURL()
	if err != nil {
		unavailable(tb, err)
	}
	prefix = "test-" + rand.Text() + ":"
	tb.Cleanup(func() {
		if err := removeKeys(url, prefix); err != nil {
			tb.Errorf("testenv: remove the test's keys: %v", err)
		}
	})
	return url, prefix
}

// removeKeys removes the keys that start with prefix, or hold it after something else as cluster-slotted keys do.
func removeKeys(url, prefix string) error {
	opts, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout, opts.PoolTimeout = patience, patience, patience, patience
	client := redis.NewClient(opts)
	defer client.Close() //nolint:errcheck // nothing was left to send
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	keys := client.Scan(ctx, 0, "*"+prefix+"*", 1000).Iterator()
	for keys.Next(ctx) {
		if err := client.Unlink(ctx, keys.Val()).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}

// Patient returns a client of the same server as one of a node, which it closes, for tests in which Redis is well: where a
// node gives up within a fraction of a second, it waits for as long as a busy machine needs, and overlooks the deadlines of
// contexts. Not for a Cluster. It is closed after the test.
func Patient(tb testing.TB, hasty redis.UniversalClient) redis.UniversalClient {
	tb.Helper()
	c, err := Unhurried(hasty)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Unhurried is Patient outside of tests; whoever calls it closes the client.
func Unhurried(hasty redis.UniversalClient) (redis.UniversalClient, error) {
	one, ok := hasty.(*redis.Client)
	if !ok {
		return nil, fmt.Errorf("testenv: %T is no client of one server", hasty)
	}
	o := *one.Options()
	_ = hasty.Close()
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience, patience
	o.Dialer = nil // the one of before has its own bound
	c := redis.NewClient(&o)
	c.AddHook(unhurried{})
	return c, nil
}

// unhurried takes what ends a call from its context.
type unhurried struct{}

func (unhurried) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return next(context.WithoutCancel(ctx), network, addr)
	}
}

func (unhurried) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return next(context.WithoutCancel(ctx), cmd) }
}

func (unhurried) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(context.WithoutCancel(ctx), cmds) }
}
