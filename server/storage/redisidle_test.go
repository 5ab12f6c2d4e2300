package storage_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/storage"
)

// What a burst opened is given back while commands go on, one at a time: they always take the connection last used, and so
// never meet the others. A subscription that hears nothing stays, and no command meets a connection that was closed.
func TestIdleConnectionsToRedisAreGivenBack(t *testing.T) {
	own := testenv.OwnRedis(t, nil)
	client, err := storage.OpenRedis(own.TCPURL() + "?conn_max_idle_time=4s")
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	at, err := redis.ParseURL(own.TCPURL())
	require.NoError(t, err)
	at.PoolSize, at.DialTimeout, at.ReadTimeout = 1, patience, patience
	observer := redis.NewClient(at)
	t.Cleanup(func() { _ = observer.Close() })
	open := func() int {
		list, err := observer.ClientList(t.Context()).Result()
		require.NoError(t, err)
		return strings.Count(list, "\n") - 1 // the observer's own
	}

	sub := client.Subscribe(t.Context(), "quiet")
	t.Cleanup(func() { _ = sub.Close() })
	require.Eventually(t, func() bool { _, err := sub.Receive(t.Context()); return err == nil }, patience, time.Millisecond)
	heard := make(chan error, 1)
	go func() {
		_, err := sub.ReceiveMessage(t.Context())
		heard <- err
	}()

	const burst = 20
	var held []*redis.Conn
	for range burst {
		c := client.(*redis.Client).Conn() //nolint:errcheck // it is one
		held = append(held, c)
		require.Eventually(t, func() bool { return c.Ping(t.Context()).Err() == nil }, patience, time.Millisecond)
	}
	require.GreaterOrEqual(t, open(), burst)
	var back sync.WaitGroup
	for _, c := range held {
		back.Go(func() { _ = c.Close() })
	}
	back.Wait()

	require.Eventually(t, func() bool {
		// A command may be late on a busy machine, but none meets a connection that was closed here.
		require.NotErrorIs(t, client.Ping(t.Context()).Err(), net.ErrClosed)
		return open() <= 2 // the subscription's, and the one that the commands take
	}, patience, 20*time.Millisecond, "connections stay open")

	require.Eventually(t, func() bool {
		n, err := client.Publish(t.Context(), "quiet", "x").Result()
		return err == nil && n == 1
	}, patience, time.Millisecond, "the subscription is gone")
	require.NoError(t, <-heard)
}
