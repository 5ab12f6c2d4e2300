package storage_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/storage"
)

// say commits and publishes one text to each session.
func (w *tiers) say(ids ...uuid.UUID) {
	for _, id := range ids {
		w.pub.Publish([]message.Entry{w.log.commit(id, words("x"), message.TypeText)})
	}
}

// readAll reads the newest entries of all sessions in one call and holds them against the log.
func (w *tiers) readAll(t *testing.T, ids []uuid.UUID) {
	t.Helper()
	ranges := make([]message.Range, len(ids))
	for i, id := range ids {
		head := int64(len(w.log.logs[id]))
		ranges[i] = message.Range{SessionID: id, From: max(0, head-20), To: head}
	}
	got, err := w.reader.Read(context.Background(), ranges)
	require.NoError(t, err)
	for i, r := range ranges {
		require.Len(t, got[i], int(r.To-r.From))
		for n, e := range got[i] {
			want := w.log.logs[r.SessionID][r.From+int64(n)]
			require.Equal(t, want.MessageID, e.MessageID)
			require.Equal(t, want.IsDeleted, e.IsDeleted, "a recalled body")
		}
	}
}

// servesAgain waits until Redis serves all sessions, with what was committed last. Appends come behind the commit, so
// nothing is committed while it waits.
func (w *tiers) servesAgain(t *testing.T, ids []uuid.UUID) {
	t.Helper()
	w.say(ids...)
	require.Eventually(t, func() bool {
		before := w.served(t, "postgres")
		w.readAll(t, ids)
		return w.up(t) && w.served(t, "postgres") == before
	}, patience, 50*time.Millisecond, "redis does not serve again")
}

func manySessions() (ids []uuid.UUID) {
	for range 60 {
		ids = append(ids, uuid.New())
	}
	return ids
}

// onServer returns those of the sessions whose keys are on a cluster's n-th master, and the others.
func (w *tiers) onServer(t *testing.T, ids []uuid.UUID, n int) (on, off []uuid.UUID) {
	const masters, slots = 3, 16384
	for _, id := range ids {
		slot, err := w.client.ClusterKeySlot(t.Context(), "offline:{"+id.String()+"}:e1").Result()
		require.NoError(t, err)
		if slot >= int64(n*slots/masters) && slot < int64((n+1)*slots/masters) {
			on = append(on, id)
		} else {
			off = append(off, id)
		}
	}
	require.NotEmpty(t, on)
	require.NotEmpty(t, off)
	return on, off
}

// left is how often Redis, or a master, was left alone.
func (w *tiers) left(t *testing.T) (n float64) {
	families, err := w.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "parley_cache_left_total" {
			n = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

// A Redis Cluster: one pipeline spans all masters and no script two slots; whatever damages it, nothing false is read; and
// with a master gone, or mute, what is on the others goes on being served by Redis, the rest by PostgreSQL until it is back.
func TestRedisCluster(t *testing.T) {
	g := testenv.RedisCluster(t)
	w := newTiers(t, g.URL, 0)
	require.IsType(t, &storage.Cluster{}, w.client)
	damageAndRead(t, w, 1)
	checkClear(t, g.URL)
	ids := manySessions()
	w.servesAgain(t, ids)
	for _, p := range g.Servers {
		n, err := testenv.RedisClient(t, p.Addr()).DBSize(t.Context()).Result()
		require.NoError(t, err)
		require.Positive(t, n, "one of the masters holds nothing: the test tests nothing")
	}
	gone, there := w.onServer(t, ids, 1)
	for _, fault := range []struct {
		name     string
		do, undo func() error
	}{
		{"killed", g.Servers[1].Kill, func() error { return g.Servers[1].Restart(t.Context()) }},
		{"mute", g.Servers[1].Pause, g.Servers[1].Resume},
	} {
		before, left := w.left(t), w.said.leftAlone(g.Servers[1].Addr())
		require.NoError(t, fault.do())
		require.Eventually(t, func() bool { w.say(ids...); w.readAll(t, ids); return w.said.leftAlone(g.Servers[1].Addr()) > left }, patience,
			10*time.Millisecond, "%s: the master is not left alone", fault.name)
		require.Eventually(t, func() bool { return w.left(t) > before }, patience, 10*time.Millisecond, "%s: not counted", fault.name)
		for range 20 {
			w.say(ids...)
			redis, postgres := w.served(t, "redis"), w.served(t, "postgres")
			w.readAll(t, gone)
			require.InDelta(t, redis, w.served(t, "redis"), 0, "%s: of whom?", fault.name)
			require.Greater(t, w.served(t, "postgres"), postgres)
			require.Eventually(t, func() bool {
				redis, postgres := w.served(t, "redis"), w.served(t, "postgres")
				w.readAll(t, there)
				return w.served(t, "redis") > redis && w.served(t, "postgres") == postgres
			}, patience, 10*time.Millisecond, "%s: the other masters do not serve", fault.name)
		}
		require.Eventually(t, func() bool { return w.up(t) }, patience, 10*time.Millisecond, "the others are there")
		// Others may be, for a moment, on a busy machine.
		require.Equal(t, left+1, w.said.leftAlone(g.Servers[1].Addr()), "%s: it was asked again", fault.name)
		require.NoError(t, fault.undo())
		g.Settled(t)
		w.servesAgain(t, ids)
	}
}

// Where a cluster does not serve with a slot missing, all of it is left alone until it is whole, and serves again then.
func TestRedisClusterThatWantsAllSlots(t *testing.T) {
	g := testenv.RedisCluster(t, "cluster-require-full-coverage yes")
	w := newTiers(t, g.URL, 0)
	ids := manySessions()
	w.servesAgain(t, ids)
	require.NoError(t, g.Servers[1].Kill())
	require.Eventually(t, func() bool { w.say(ids...); w.readAll(t, ids); return !w.up(t) }, patience, 10*time.Millisecond,
		"masters that refuse everything count as there")
	require.NoError(t, g.Servers[1].Restart(t.Context()))
	g.Settled(t)
	w.servesAgain(t, ids)
}

// Sentinel promotes a replica that is behind: it holds what was recalled, and nothing of it is read. Service goes on all
// the time, and Redis serves again by itself.
func TestRedisSentinel(t *testing.T) {
	g := testenv.RedisSentinel(t)
	w := newTiers(t, g.URL, 0)
	ids := manySessions()
	w.servesAgain(t, ids)
	master, replica := testenv.RedisClient(t, g.Servers[0].Addr()), testenv.RedisClient(t, g.Servers[1].Addr())
	key := "offline:{" + ids[0].String() + "}:e1"
	holds := func(c *redis.Client) bool { n, err := c.Exists(t.Context(), key).Result(); return err == nil && n == 1 }
	require.Eventually(t, func() bool { return holds(replica) }, time.Minute, 10*time.Millisecond, "nothing was replicated")

	// From here on the replica hears nothing.
	require.NoError(t, master.Do(t.Context(), "ACL", "SETUSER", "default", "-psync", "-sync").Err())
	require.NoError(t, master.Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
	for _, id := range ids {
		w.pub.Publish([]message.Entry{w.log.commit(id, &parleyv1.Content{Kind: &parleyv1.Content_Recall{
			Recall: &parleyv1.Recall{Seq: int64(len(w.log.logs[id]))}}}, message.TypeRecall)})
	}
	require.Eventually(t, func() bool { return !holds(master) }, time.Minute, 10*time.Millisecond, "the master was not told")
	require.True(t, holds(replica), "the replica was told: the test tests nothing")

	require.NoError(t, g.Servers[0].Kill())
	promoted := func() bool {
		role, err := replica.Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "master"
	}
	require.Eventually(t, func() bool { w.readAll(t, ids); return promoted() }, patience, 10*time.Millisecond, "no failover")
	require.Eventually(t, func() bool { w.readAll(t, ids); return w.up(t) && w.client.Ping(t.Context()).Err() == nil }, patience, 10*time.Millisecond)
	for _, id := range ids { // just what was recalled, which the replica has whole
		head := int64(len(w.log.logs[id]))
		w.check(t, id, head-2, head-1)
	}
	w.servesAgain(t, ids)
	body, err := replica.ZRange(t.Context(), key, 0, -1).Result()
	require.NoError(t, err)
	require.NotEmpty(t, body, "the promoted replica is not used")
}

// Which URLs are taken, and what the clients made of them do.
func TestRedisURLs(t *testing.T) {
	for raw, kind := range map[string]any{
		"redis://h:1/2": &redis.Client{}, "rediss://u:p@h:1": &redis.Client{}, "unix:///tmp/x.sock": &redis.Client{},
		"redis+sentinel://u:p@h:1,i:2/name": &redis.Client{}, "redis+sentinel://h:1/name?db=3&sentinel_password=": &redis.Client{},
		"redis+cluster://u:p@h:1,i:2": &storage.Cluster{}, "rediss+cluster://h:1": &storage.Cluster{},
	} {
		c, err := storage.OpenRedis(raw)
		require.NoError(t, err, raw)
		require.IsType(t, kind, c, raw)
		switch c := c.(type) {
		case *redis.Client:
			o := c.Options()
			requireBounds(t, o.Protocol, o.MaxRetries, o.DialerRetries, o.PoolSize, o.MaxActiveConns, o.ContextTimeoutEnabled,
				o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout)
		case *storage.Cluster:
			o := c.Options()
			requireBounds(t, o.Protocol, o.MaxRetries, o.DialerRetries, o.PoolSize, o.MaxActiveConns, o.ContextTimeoutEnabled,
				o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout)
		}
		require.NoError(t, c.Close())
	}
	for _, raw := range []string{"", "http://h", "redis+sentinel://:secret@h:1", "redis+sentinel://:secret@h:1/n?what=1",
		"redis+sentinel://:secret@h:1/n?db=x", "redis+sentinel:///n", "redis+cluster://:secret@", "redis+cluster://:secret@h:1/3",
		"redis+ring://:secret@h:1", "redis://:secret@h:1/x", "redis://:secret@h:1:%"} {
		_, err := storage.OpenRedis(raw)
		require.ErrorContains(t, err, "PARLEY_REDIS_URL", raw)
		require.NotContains(t, err.Error(), "secret")
	}
}

func requireBounds(t *testing.T, protocol, retries, dials, pool, active int, contexts bool, timeouts ...time.Duration) {
	t.Helper()
	require.Equal(t, 3, protocol)
	require.LessOrEqual(t, retries, 0, "a script would be run twice")
	require.Equal(t, 1, dials)
	require.Equal(t, 32, pool)
	require.Equal(t, 32, active)
	require.True(t, contexts)
	for _, d := range timeouts {
		require.Positive(t, d)
		require.LessOrEqual(t, d, 500*time.Millisecond)
	}
}

// A cluster promotes a replica that is behind: it holds what was recalled and states from before a change, and nothing of
// either is read. Redis serves again by itself, from the replica.
func TestRedisClusterPromotesAReplica(t *testing.T) {
	g := testenv.RedisCluster(t)
	behind := g.Replicate(t, 0)
	w := newTiers(t, g.URL, 0)
	ids := manySessions()
	w.servesAgain(t, ids)
	moved, _ := w.onServer(t, ids, 0)
	master, replica := testenv.RedisClient(t, g.Servers[0].Addr()), testenv.RedisClient(t, behind.Addr())
	key := "offline:{" + moved[0].String() + "}:e1"
	holds := func(c *redis.Client) bool {
		keys, err := c.Do(t.Context(), "KEYS", key).StringSlice() // which a replica answers
		return err == nil && len(keys) == 1
	}
	require.Eventually(t, func() bool { return holds(replica) }, patience, 10*time.Millisecond, "nothing was replicated")

	// From here on the replica hears nothing.
	require.NoError(t, master.Do(t.Context(), "ACL", "SETUSER", "default", "-psync", "-sync").Err())
	require.NoError(t, master.Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
	for _, id := range moved {
		w.pub.Publish([]message.Entry{w.log.commit(id, &parleyv1.Content{Kind: &parleyv1.Content_Recall{
			Recall: &parleyv1.Recall{Seq: int64(len(w.log.logs[id]))}}}, message.TypeRecall)})
	}
	require.Eventually(t, func() bool { return !holds(master) }, patience, 10*time.Millisecond, "the master was not told")
	require.True(t, holds(replica), "the replica was told: the test tests nothing")
	cluster, ok := w.client.(*storage.Cluster)
	require.True(t, ok)
	turns := cluster.Turns()

	require.NoError(t, g.Servers[0].Kill())
	promoted := func() bool {
		role, err := replica.Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "master"
	}
	require.Eventually(t, func() bool { w.readAll(t, ids); return promoted() }, patience, 10*time.Millisecond, "no failover")
	for _, id := range moved { // just what was recalled, which the replica has whole
		head := int64(len(w.log.logs[id]))
		w.check(t, id, head-2, head-1)
	}
	w.servesAgain(t, ids)
	w.servesAgain(t, moved)
	chunks, err := replica.ZCard(t.Context(), key).Result()
	require.NoError(t, err)
	require.Positive(t, chunks, "the promoted replica is not used")
	require.Greater(t, cluster.Turns(), turns+1, "a master was left alone and another one came: states from before are not to be trusted")
}
