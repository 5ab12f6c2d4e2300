package dev_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev"
)

func startRedis(t *testing.T, o dev.RedisOptions) *dev.Redis {
	t.Helper()
	r, err := dev.StartRedis(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, r.Stop(ctx))
	})
	return r
}

// startServer is startRedis for tests that need the real one.
func startServer(t *testing.T, o dev.RedisOptions) *dev.Redis {
	t.Helper()
	r := startRedis(t, o)
	if r.Kind() != dev.KindServer {
		t.Skip("this machine has no redis-server")
	}
	return r
}

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	require.NoError(t, err)
	opts.MaxRetries = -1
	opts.DialerRetries = 1
	opts.ContextTimeoutEnabled = true
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = patience, patience, patience
	c := redis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedisStartsEmptyEachTime(t *testing.T) {
	r := startServer(t, dev.RedisOptions{DataDir: openDir(t), TCP: true, Settings: map[string]string{"maxmemory": "64mb"}})
	c := client(t, r.URL())
	require.NoError(t, c.Set(t.Context(), "key", "value", 0).Err())
	require.Equal(t, "value", client(t, r.TCPURL()).Get(t.Context(), "key").Val())
	require.Equal(t, map[string]string{"maxmemory": "67108864"}, c.ConfigGet(t.Context(), "maxmemory").Val())
	require.Equal(t, map[string]string{"appendonly": "no"}, c.ConfigGet(t.Context(), "appendonly").Val())

	url, pid := r.URL(), r.PID()
	require.NoError(t, r.Kill())
	require.True(t, gone(pid))
	require.Error(t, c.Ping(t.Context()).Err())
	require.NoError(t, r.Restart(t.Context()))
	require.Equal(t, url, r.URL())
	require.ErrorIs(t, client(t, url).Get(t.Context(), "key").Err(), redis.Nil)
}

func TestRedisAsksForItsPassword(t *testing.T) {
	r := startServer(t, dev.RedisOptions{DataDir: openDir(t), TCP: true})
	opts, err := redis.ParseURL(r.TCPURL())
	require.NoError(t, err)
	require.ErrorContains(t, client(t, "redis://"+opts.Addr).Ping(t.Context()).Err(), "NOAUTH")
}

func TestRedisPauses(t *testing.T) {
	r := startServer(t, dev.RedisOptions{DataDir: openDir(t)})
	c := client(t, r.URL())
	require.NoError(t, c.Ping(t.Context()).Err())
	require.NoError(t, r.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := c.Ping(ctx).Err() // the connection's error, or the context's where that was over before the call began
	require.True(t, errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded), "%v", err)
	require.NoError(t, r.Resume())
	require.NoError(t, client(t, r.URL()).Ping(t.Context()).Err())
	require.NoError(t, r.Pause(), "the clean-up must be able to stop a paused one")
}

func TestRedisWithALongPathGetsAShortSocket(t *testing.T) {
	r := startServer(t, dev.RedisOptions{DataDir: filepath.Join(openDir(t), strings.Repeat("long-", 25))})
	require.NoError(t, client(t, r.URL()).Ping(t.Context()).Err())
}

func TestRedisSaysWhyItDoesNotStart(t *testing.T) {
	dir := openDir(t)
	startServer(t, dev.RedisOptions{DataDir: dir})
	_, err := dev.StartRedis(t.Context(), dev.RedisOptions{DataDir: dir})
	require.ErrorContains(t, err, "in use")
	_, err = dev.StartRedis(t.Context(), dev.RedisOptions{DataDir: openDir(t), Settings: map[string]string{"maxmemory": "much"}})
	require.ErrorContains(t, err, "maxmemory")
	_, err = dev.StartRedis(t.Context(), dev.RedisOptions{DataDir: openDir(t), Settings: map[string]string{"port": "1"}})
	require.ErrorContains(t, err, "port")
}

func TestRedisStandInExpiresKeys(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("PARLEY_REDIS_BIN", "")
	_, err := dev.StartRedis(t.Context(), dev.RedisOptions{DataDir: t.TempDir(), RequireServer: true})
	require.ErrorContains(t, err, "redis-server is missing")

	var log strings.Builder
	r := startRedis(t, dev.RedisOptions{DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.Equal(t, dev.KindInProcess, r.Kind())
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	c := client(t, r.URL())
	require.NoError(t, c.Set(t.Context(), "brief", "x", 50*time.Millisecond).Err())
	require.NoError(t, c.Set(t.Context(), "lasting", "x", 0).Err())
	require.Eventually(t, func() bool { return errors.Is(c.Get(t.Context(), "brief").Err(), redis.Nil) },
		time.Minute, 10*time.Millisecond)
	require.NoError(t, c.Get(t.Context(), "lasting").Err())
	require.NoError(t, r.Restart(t.Context()))
	require.ErrorIs(t, client(t, r.URL()).Get(t.Context(), "lasting").Err(), redis.Nil)
}
