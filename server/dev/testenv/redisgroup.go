package testenv

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/dev"
)

// RedisGroup is several redis-servers that know each other, for one test alone, which may kill and restart them.
type RedisGroup struct {
	URL     string
	Servers []*dev.RedisProcess
}

// process starts one redis-server that ends with the test.
func process(tb testing.TB, sentinel bool, config ...string) *dev.RedisProcess {
	tb.Helper()
	ctx, cancel := step()
	defer cancel()
	p, err := dev.StartRedisProcess(ctx, DataDir(tb), sentinel, config...)
	if errors.Is(err, dev.ErrNoRedis) {
		unavailable(tb, err)
	}
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	tb.Cleanup(func() {
		if err := p.Kill(); err != nil {
			tb.Errorf("testenv: %v", err)
		}
	})
	return p
}

// RedisCluster starts a Redis Cluster of three masters without replicas. A node that is silent for a second counts as down;
// the others go on, unless config says otherwise.
func RedisCluster(tb testing.TB, config ...string) *RedisGroup {
	tb.Helper()
	const masters, slots = 3, 16384
	g := &RedisGroup{}
	var addrs []string
	for range masters {
		p := clusterNode(tb, config...)
		g.Servers, addrs = append(g.Servers, p), append(addrs, p.Addr())
	}
	ctx, cancel := step()
	defer cancel()
	for n, p := range g.Servers {
		c := RedisClient(tb, p.Addr())
		run(tb, c.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", n+1).Err())
		run(tb, c.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", n*slots/masters, (n+1)*slots/masters-1).Err())
		if n > 0 {
			first := g.Servers[0]
			bus, err := RedisClient(tb, first.Addr()).ConfigGet(ctx, "cluster-port").Result()
			run(tb, err)
			run(tb, c.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", first.Port(), bus["cluster-port"]).Err())
		}
	}
	g.URL = "redis+cluster://" + strings.Join(addrs, ",")
	g.Settled(tb)
	return g
}

func clusterNode(tb testing.TB, config ...string) *dev.RedisProcess {
	tb.Helper()
	return process(tb, false, append([]string{"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 1000",
		"cluster-require-full-coverage no", "repl-diskless-sync-delay 0", "cluster-port " + freePort(tb)}, config...)...)
}

// Replicate adds a replica of a cluster's n-th master, which takes its place when it is gone.
func (g *RedisGroup) Replicate(tb testing.TB, n int) *dev.RedisProcess {
	tb.Helper()
	p := clusterNode(tb)
	ctx, cancel := step()
	defer cancel()
	c, master := RedisClient(tb, p.Addr()), RedisClient(tb, g.Servers[n].Addr())
	bus, err := master.ConfigGet(ctx, "cluster-port").Result()
	run(tb, err)
	id, err := master.Do(ctx, "CLUSTER", "MYID").Text()
	run(tb, err)
	run(tb, c.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", g.Servers[n].Port(), bus["cluster-port"]).Err())
	g.Servers = append(g.Servers, p)
	g.Settled(tb)
	await(tb, "a replica", func(ctx context.Context) bool {
		if c.Do(ctx, "CLUSTER", "REPLICATE", id).Err() != nil {
			return false
		}
		info, err := c.Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	return p
}

// Settled waits until all servers of a cluster know all slots to be served.
func (g *RedisGroup) Settled(tb testing.TB) {
	tb.Helper()
	for _, p := range g.Servers {
		c := RedisClient(tb, p.Addr())
		await(tb, "a cluster", func(ctx context.Context) bool {
			info, err := c.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(g.Servers)))
		})
	}
}

// RedisSentinel starts a master, a replica of it, and a sentinel that promotes the replica when the master was silent for
// half a second: Servers in this order.
func RedisSentinel(tb testing.TB) *RedisGroup {
	tb.Helper()
	const name = "parley"
	master := process(tb, false)
	replica := process(tb, false, fmt.Sprintf("replicaof 127.0.0.1 %d", master.Port()), "repl-diskless-sync-delay 0")
	r := RedisClient(tb, replica.Addr())
	await(tb, "a replica", func(ctx context.Context) bool {
		info, err := r.Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	sentinel := process(tb, true, fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 1", name, master.Port()),
		"sentinel down-after-milliseconds "+name+" 500", "sentinel failover-timeout "+name+" 5000")
	s := RedisClient(tb, sentinel.Addr())
	await(tb, "a sentinel", func(ctx context.Context) bool {
		replicas, err := s.Do(ctx, "SENTINEL", "REPLICAS", name).Slice()
		return err == nil && len(replicas) == 1
	})
	return &RedisGroup{URL: "redis+sentinel://" + sentinel.Addr() + "/" + name, Servers: []*dev.RedisProcess{master, replica, sentinel}}
}

// RedisClient returns a client of one server, closed after the test.
func RedisClient(tb testing.TB, addr string) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func run(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
}

// await waits until ok holds.
func await(tb testing.TB, what string, ok func(ctx context.Context) bool) {
	tb.Helper()
	ctx, cancel := step()
	defer cancel()
	for !ok(ctx) {
		select {
		case <-ctx.Done():
			tb.Fatalf("testenv: %s did not come about", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freePort returns a port of 127.0.0.1 that nobody listens on.
func freePort(tb testing.TB) string {
	tb.Helper()
	port, err := dev.FreePort(context.Background())
	run(tb, err)
	return strconv.Itoa(port)
}
