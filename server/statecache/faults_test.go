package statecache_test

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
)

// Redis is flushed, killed and muted while two nodes mark and read.
func TestReadingsAreRightWhateverHappensToRedis(t *testing.T) {
	own := testenv.OwnRedis(t, nil)
	readUnderFaults(t, own.TCPURL(), func(nodes []*node, warm func(), more func(metric, outcome string)) {
		warm()
		require.NoError(t, nodes[0].client.FlushAll(t.Context()).Err())
		warm()
		require.NoError(t, own.Kill())
		more("deletes", "skipped")
		require.NoError(t, own.Restart(t.Context()))
		warm()
		require.NoError(t, own.Pause())
		more("deletes", "skipped")
		require.NoError(t, own.Resume())
		warm()
	})
}

// In a Cluster a master is killed and muted, and at last another one's replica takes its place, while two nodes mark and read.
// The cache goes on being used for what the others have.
func TestReadingsAreRightWhateverHappensToAMaster(t *testing.T) {
	g := testenv.RedisCluster(t)
	replica := testenv.RedisClient(t, g.Replicate(t, 0).Addr())
	readUnderFaults(t, g.URL, func(_ []*node, warm func(), more func(metric, outcome string)) {
		warm()
		require.NoError(t, g.Servers[1].Kill())
		more("deletes", "failed")
		warm()
		require.NoError(t, g.Servers[1].Restart(t.Context()))
		warm()
		require.NoError(t, g.Servers[2].Pause())
		more("deletes", "failed")
		warm()
		require.NoError(t, g.Servers[2].Resume())
		g.Settled(t)
		warm()
		require.NoError(t, g.Servers[0].Kill())
		require.Eventually(t, func() bool {
			role, err := replica.Do(t.Context(), "ROLE").Slice()
			return err == nil && role[0] == "master"
		}, 2*time.Minute, 10*time.Millisecond, "no failover")
		warm()
	})
}

// readUnderFaults lets two nodes mark and read while faults happen. On its own node every answered mark is read at once,
// whatever Redis does; and when it is well again, both nodes soon read what PostgreSQL has. faults gets what waits until the first node's cache was used again, and until a metric of it has grown.
func readUnderFaults(t *testing.T, url string, faults func(nodes []*node, warm func(), more func(metric, outcome string))) {
	w := newWorld(t, "e1", 8, 50)
	nodes := []*node{w.node(t, url, options{hasty: true, feed: true}), w.node(t, url, options{hasty: true, feed: true})}

	stop := make(chan struct{})
	var all sync.WaitGroup
	for i, user := range w.users {
		all.Go(func() {
			random, n := rand.New(rand.NewPCG(3, uint64(i))), nodes[i%2]
			for {
				select {
				case <-stop:
					return
				default:
				}
				id, seq := w.sessions[random.IntN(len(w.sessions))], random.Int64N(head)+1
				nodes[(i+1)%2].read(t, user, id)
				if err := n.mark(t.Context(), user, id, seq); err != nil {
					t.Error(err)
					return
				}
				if got := n.read(t, user, id)[id].ReadSeq; got < seq {
					t.Errorf("read up to %d after a mark of %d was answered", got, seq)
				}
			}
		})
	}
	hits := func() int { return nodes[0].outcomes(t, "reads")["hit"] }
	warm := func() {
		before := hits()
		require.Eventually(t, func() bool { return hits() > before+20 }, 2*time.Minute, 10*time.Millisecond)
	}
	more := func(metric, outcome string) {
		before := nodes[0].outcomes(t, metric)[outcome]
		require.Eventually(t, func() bool { return nodes[0].outcomes(t, metric)[outcome] > before+10 }, 2*time.Minute, 10*time.Millisecond)
	}
	faults(nodes, warm, more)
	close(stop)
	all.Wait()
	for _, n := range nodes {
		require.Eventually(t, func() bool {
			differing, _ := n.differing(t)
			return differing == 0
		}, time.Minute, 50*time.Millisecond)
	}
}

// A delete that fails while Redis is not yet left alone is tried again, and until it has succeeded the node does not use
// the cache for the key.
func TestAFailedDeleteIsTriedAgain(t *testing.T) {
	url, epoch := testenv.Redis(t)
	w := newWorld(t, epoch, 1, 2)
	var deletes atomic.Int64
	givenUp := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(givenUp) })
	defer letGo()
	slow := throughProxy(t, url, func(sent []byte) {
		if isDelete(sent) && deletes.Add(1) == 1 {
			<-givenUp
		}
	})
	n, other := w.node(t, slow, options{hasty: true}), w.node(t, url, options{})
	id := w.sessions[0]
	time.Sleep(5 * time.Millisecond) //nolint:forbidigo // a node trusts nothing that is as old as itself
	n.read(t, w.users[0], w.sessions...)
	require.Zero(t, other.read(t, w.users[0], id)[id].ReadSeq)

	require.NoError(t, n.mark(t.Context(), w.users[0], id, 7))
	letGo()
	require.Positive(t, n.outcomes(t, "deletes")["failed"])
	require.EqualValues(t, 7, n.read(t, w.users[0], id)[id].ReadSeq)
	require.Eventually(t, func() bool {
		return other.read(t, w.users[0], id)[id].ReadSeq == 7
	}, time.Minute, 5*time.Millisecond, "no feed runs: only the repeated delete can tell the other node")
	// It is counted after Redis has done it.
	require.Eventually(t, func() bool { return n.outcomes(t, "deletes")["done"] == 1 }, time.Minute, 5*time.Millisecond)
}

// What a key costs Redis, for the documentation.
func TestMemoryPerKey(t *testing.T) {
	url, epoch := testenv.Redis(t)
	w := newWorld(t, epoch, 1, 4)
	n := w.node(t, url, options{lease: time.Minute}) // which no reading outlives
	for i, exceptions := range []int{0, 10, 100, 501} {
		w.exec(t, `INSERT INTO msg_state (user_id, session_id, seq_id, msg_id, is_read)
			SELECT $1, $2, 2 * n - 1, gen_random_uuid(), true FROM generate_series(1, $3::bigint) n`, w.users[0], w.sessions[i], exceptions)
	}
	got := n.read(t, w.users[0], w.sessions...)
	again := n.read(t, w.users[0], w.sessions...)
	require.True(t, reflect.DeepEqual(got, again), "what is read from the cache is what was read from PostgreSQL")
	require.Equal(t, 1, n.outcomes(t, "reads")["bypass"], "a session with too many exceptions is not kept")
	var bytes []int64
	for _, id := range w.sessions {
		keys, err := n.client.Keys(context.Background(), "state1:"+id.String()+":*").Result()
		require.NoError(t, err)
		require.Len(t, keys, 1)
		used, err := n.client.MemoryUsage(context.Background(), keys[0]).Result()
		require.NoError(t, err)
		t.Log(len(keys[0]), "bytes of key,", used, "in all")
		bytes = append(bytes, used)
	}
	require.Less(t, bytes[0], int64(300))
	require.Less(t, bytes[2], int64(1000))
}
