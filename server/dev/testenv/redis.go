package testenv

import (
	"context"
	"crypto/rand"
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
