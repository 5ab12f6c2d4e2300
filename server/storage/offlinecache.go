package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/wire"
)

const (
	// leaseFor is how long a reader may take to repair what it found missing: longer than a reading takes.
	leaseFor = 30 * time.Second
	// A chunk holds this many entries or bytes at most, or one entry: who reads some of them reads all of them.
	maxChunk      = 64
	maxChunkBytes = 32 << 10
	// readAtMost is of how many entries a range is read; more is not asked for.
	readAtMost = 4000
	// appendAtOnce is how many entries one pipeline appends. Redis does a pipeline in one go, some 10 ms of its time for as
	// many, and nobody can read meanwhile.
	appendAtOnce = 1024
	// scanAtOnce is how many keys Redis looks at in one go when all are cleared.
	scanAtOnce = 1000
)

// keyKinds are what a session's keys begin with: its entries, its lease.
var keyKinds = []string{"offline:", "lease:"}

// OfflineCache is the Redis tier of reading back: per session a sorted set of chunks of its log (wire.Chunk) by their last
// seq, with a lease for those who repair it, in one slot of a cluster. What is appended together is one chunk, so a page comes
// as few long strings, which are what streams are sent. Chunks may overlap, where a page that was repaired ended within one.
// Redis is never trusted: whoever reads holds the result against the log's arithmetic, and what a former life of the server
// left is not looked at.
type OfflineCache struct {
	client redis.UniversalClient
	epoch  func() string
	length int
	ttl    time.Duration
	clock  serverClock
	script atomic.Bool // ranges are read by rangeScript only
}

// NewOfflineCache returns the tier: at most length entries of each session, kept for ttl after the last one. epoch tells
// the life of the log, whose entries have keys of their own: another life gives the same seqs to other entries.
func NewOfflineCache(client redis.UniversalClient, epoch func() string, length int, ttl time.Duration) *OfflineCache {
	return &OfflineCache{client: client, epoch: epoch, length: length, ttl: ttl}
}

// Life implements offline.Cache.
func (c *OfflineCache) Life() string { return c.epoch() }

// keys are a session's keys in the log's present life.
func (c *OfflineCache) keys(id uuid.UUID) []string { return keysIn(c.epoch(), id) }

// keysIn are a session's keys; what is in braces decides the slot of a cluster.
func keysIn(life string, id uuid.UUID) []string {
	tag := "{" + id.String() + "}:" + life
	keys := make([]string, len(keyKinds))
	for i, kind := range keyKinds {
		keys[i] = kind + tag
	}
	return keys
}

// Append implements offline.Cache.
func (c *OfflineCache) Append(ctx context.Context, batches []offline.Batch) error {
	for len(batches) > 0 {
		n, entries := 1, len(batches[0].Entries)
		for n < len(batches) && entries+len(batches[n].Entries) <= appendAtOnce {
			entries += len(batches[n].Entries)
			n++
		}
		if err := c.appendSome(ctx, batches[:n]); err != nil {
			return err
		}
		batches = batches[n:]
	}
	return nil
}

func (c *OfflineCache) appendSome(ctx context.Context, batches []offline.Batch) error {
	cluster, ok := c.client.(*Cluster)
	if !ok {
		return c.appendTo(ctx, c.client, &c.clock, [][]offline.Batch{batches})
	}
	return cluster.each(ctx, breaker.Writes, len(batches), func(i int) string { return c.batchKeys(batches[i])[0] },
		func(m *master, items []int) error {
			return c.appendTo(ctx, m.client, &m.clock, slices.Collect(slices.Chunk(some(batches, items), 1))) // each in its slot
		})
}

// appendTo appends by a call for each element, all of them to one server.
func (c *OfflineCache) appendTo(ctx context.Context, client redis.UniversalClient, clock *serverClock, calls [][]offline.Batch) error {
	until, err := c.until(ctx, client, clock)
	if err != nil {
		return err
	}
	var now int64
	err = runOn(ctx, client, appendScript, len(calls), func(i int) ([]string, []any) { return c.appendCall(calls[i], until) }, func(_ int, reply any) error {
		at, ok := reply.(int64)
		if !ok {
			return fmt.Errorf("redis gave %T for an append", reply)
		}
		now = max(now, at)
		return nil
	})
	if err == nil {
		clock.set(now)
	}
	return err
}

// batchKeys are the keys that a batch is appended to.
func (c *OfflineCache) batchKeys(b offline.Batch) []string {
	return keysIn(cmp.Or(b.Life, c.epoch()), b.Entries[0].SessionID)
}

// atOnce is of how many of n sessions one call of a script may be: of all, but where they are on several servers.
func (c *OfflineCache) atOnce(n int) int {
	if _, cluster := c.client.(*Cluster); cluster {
		return 1
	}
	return max(n, 1)
}

// appendCall is what one run of appendScript takes.
func (c *OfflineCache) appendCall(batches []offline.Batch, until int64) (keys []string, args []any) {
	n := 3
	for _, b := range batches {
		n += 4 + 2*(1+len(b.Entries)/maxChunk)
	}
	keys, args = make([]string, 0, len(keyKinds)*len(batches)), append(make([]any, 0, n), c.length, c.ttl.Milliseconds(), until)
	for _, b := range batches {
		keys = append(keys, c.batchKeys(b)...)
		args = append(args, b.Lease, b.Entries[0].Seq, b.Entries[len(b.Entries)-1].Seq, 0)
		count := len(args) - 1
		for rest := b.Entries; len(rest) > 0; {
			n := chunkOf(rest)
			args = append(args, rest[n-1].Seq, wire.Chunk(rest[:n]))
			rest = rest[n:]
		}
		args[count] = (len(args) - count - 1) / 2
	}
	return keys, args
}

// chunkOf is how many of the entries make the next chunk.
func chunkOf(entries []*wire.Entry) int {
	size := entries[0].Size()
	for n := 1; n < min(len(entries), maxChunk); n++ {
		if size += entries[n].Size(); size > maxChunkBytes {
			return n
		}
	}
	return min(len(entries), maxChunk)
}

// until is when what is sent now is too late, in the server's time.
func (c *OfflineCache) until(ctx context.Context, client redis.UniversalClient, clock *serverClock) (int64, error) {
	now, ok := clock.now()
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, redisTimeout)
		defer cancel()
		t, err := client.Time(ctx).Result()
		if err != nil {
			return 0, fmt.Errorf("redis: %w", err)
		}
		now = t.UnixMilli()
		clock.set(now)
	}
	return now + offline.AppendLateness.Milliseconds()/2, nil
}

// serverClock follows the clock of Redis, by what its answers say. Only the time that passes here since an answer is
// measured, with the monotonic clock. The answer was older when it came, so this is never ahead of the server.
type serverClock struct {
	mu    sync.Mutex
	at    int64 // ms, on the server, at here
	here  time.Time
	known bool
}

func (s *serverClock) set(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.here, s.known = at, time.Now(), true //nolint:forbidigo // measures what passes here
}

func (s *serverClock) now() (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at + time.Since(s.here).Milliseconds(), s.known //nolint:forbidigo // measures what passes here
}

// Drop implements offline.Cache. It takes no memory, so that it succeeds on a Redis that is full.
func (c *OfflineCache) Drop(ctx context.Context, ids []uuid.UUID) error {
	if cluster, ok := c.client.(*Cluster); ok {
		return cluster.each(ctx, breaker.Writes, len(ids), func(i int) string { return c.keys(ids[i])[0] },
			func(m *master, items []int) error { return c.dropFrom(ctx, m.client, some(ids, items)) })
	}
	return c.dropFrom(ctx, c.client, ids)
}

func (c *OfflineCache) dropFrom(ctx context.Context, client redis.UniversalClient, ids []uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, id := range ids {
			p.Del(ctx, c.keys(id)...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// Clear implements offline.Cache: it looks at all keys of all masters. SCAN returns every key that is there from its
// beginning to its end, so what was there before is gone. While a master is left alone nothing is done.
func (c *OfflineCache) Clear(ctx context.Context) error {
	suffix := "}:" + c.epoch()
	one := func(ctx context.Context, master *redis.Client) error {
		for cursor := uint64(0); ; {
			keys, next, err := c.scan(ctx, master, cursor, "*{*"+suffix)
			if err != nil {
				return fmt.Errorf("redis: %w", err)
			}
			if err := c.unlink(ctx, master, keys); err != nil {
				return fmt.Errorf("redis: %w", err)
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	switch client := c.client.(type) {
	case *Cluster:
		if !client.whole() {
			return &breaker.PartError{}
		}
		if err := client.ForEachMaster(ctx, one); err != nil {
			return &breaker.PartError{Err: err}
		}
		return nil
	case *redis.Client:
		return one(ctx, client)
	default:
		return fmt.Errorf("redis: a %T cannot be cleared", client)
	}
}

func (c *OfflineCache) scan(ctx context.Context, master *redis.Client, cursor uint64, match string) ([]string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return master.Scan(ctx, cursor, match, scanAtOnce).Result()
}

// unlink deletes those of the keys that are sessions'. One by one, since they lie in different slots of a cluster.
func (c *OfflineCache) unlink(ctx context.Context, master *redis.Client, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	pipe := master.Pipeline()
	for _, k := range keys {
		for _, kind := range keyKinds {
			if strings.HasPrefix(k, kind+"{") {
				pipe.Unlink(ctx, k)
			}
		}
	}
	if pipe.Len() == 0 {
		return nil
	}
	_, err := pipe.Exec(ctx)
	return err
}

// Read implements offline.Cache.
func (c *OfflineCache) Read(ctx context.Context, ranges []message.Range) ([]offline.Cached, error) {
	out := make([]offline.Cached, len(ranges))
	var ask []int
	for i, r := range ranges {
		if n := r.To - r.From; n > 0 && n <= readAtMost {
			ask = append(ask, i)
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout) // for both trips
	defer cancel()
	chunks, err := c.chunks(ctx, ranges, ask)
	part := (*breaker.PartError)(nil)
	if err != nil && !errors.As(err, &part) {
		return out, err
	}
	var missing []int
	for n, i := range ask {
		if out[i].Entries, out[i].Broken = joined(ranges[i], chunks[n]); out[i].Entries == nil {
			missing = append(missing, i)
		}
	}
	// A server that did not answer just now has used up the time of both trips, and the others would be blamed for it: what they
	// miss is repaired another time.
	if len(missing) == 0 || part != nil && part.Err != nil {
		return out, nil
	}
	if err := c.leases(ctx, ranges, missing, out); err != nil && !errors.As(err, &part) {
		return out, err
	}
	return out, nil
}

// leases gets leases for what is missing.
func (c *OfflineCache) leases(ctx context.Context, ranges []message.Range, missing []int, out []offline.Cached) error {
	token := uuid.NewString()
	calls := slices.Collect(slices.Chunk(missing, c.atOnce(len(missing))))
	return runScript(ctx, c.client, breaker.Reads, leaseScript, len(calls), func(n int) (keys []string, args []any) {
		for _, i := range calls[n] {
			keys = append(keys, c.keys(ranges[i].SessionID)[1])
		}
		return keys, []any{token, leaseFor.Milliseconds()}
	}, func(n int, reply any) error {
		items, ok := reply.([]any)
		if !ok || len(items) != len(calls[n]) {
			return fmt.Errorf("redis gave %T for leases", reply)
		}
		for k, i := range calls[n] {
			out[i].Lease, _ = items[k].(string)
		}
		return nil
	})
}

// Ping implements offline.Cache. It writes, so that a Redis that only reads, or is full, does not count.
func (c *OfflineCache) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	const key = "parley:probe"
	if cluster, ok := c.client.(*Cluster); ok {
		_, err := cluster.at(ctx, key)
		return err
	}
	return c.client.Set(ctx, key, "", time.Minute).Err()
}

// Parts implements offline.Cache.
func (c *OfflineCache) Parts() breaker.Parts {
	if cluster, ok := c.client.(*Cluster); ok {
		return cluster
	}
	return nil
}

// runScript runs a script n times, in one pipeline to each server that is concerned. The error may be a *breaker.PartError.
func runScript(ctx context.Context, client redis.UniversalClient, use breaker.Use, s *redis.Script, n int, call func(i int) ([]string, []any),
	take func(i int, reply any) error,
) error {
	cluster, ok := client.(*Cluster)
	if !ok {
		return runOn(ctx, client, s, n, call, take)
	}
	var mu sync.Mutex
	key := func(i int) string { keys, _ := call(i); return keys[0] }
	return cluster.each(ctx, use, n, key, func(m *master, items []int) error {
		return runOn(ctx, m.client, s, len(items), func(k int) ([]string, []any) { return call(items[k]) }, func(k int, reply any) error {
			mu.Lock()
			defer mu.Unlock()
			return take(items[k], reply)
		})
	})
}

// runOn runs a script n times in one pipeline, and once more with its source where the server does not know it yet.
func runOn(ctx context.Context, client redis.UniversalClient, s *redis.Script, n int, call func(i int) ([]string, []any), take func(i int, reply any) error) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	todo := make([]int, n)
	for i := range todo {
		todo[i] = i
	}
	for _, whole := range []bool{false, true} {
		pipe := client.Pipeline()
		cmds := make([]*redis.Cmd, len(todo))
		for k, i := range todo {
			ks, args := call(i)
			if whole {
				cmds[k] = s.Eval(ctx, pipe, ks, args...)
			} else {
				cmds[k] = s.EvalSha(ctx, pipe, ks, args...)
			}
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		var missing []int
		for k, i := range todo {
			reply, err := cmds[k].Result()
			switch {
			case err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") && !whole:
				missing = append(missing, i)
			case err != nil:
				return fmt.Errorf("redis: %w", err)
			case take != nil:
				if err := take(i, reply); err != nil {
					return err
				}
			}
		}
		if todo = missing; len(todo) == 0 {
			return nil
		}
	}
	return nil
}
