package storage

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/wire"
)

// OfflineCache is the Redis tier of reading back: per session a sorted set of message ids by seq and a hash of their
// encoded entries, in one slot of a cluster, with a counter that stands for recalls. Redis is never trusted: whoever reads
// holds the result against the log's arithmetic.
type OfflineCache struct {
	client redis.UniversalClient
	epoch  func() string
	length int
	ttl    time.Duration
}

// NewOfflineCache returns the tier: at most length entries of each session, kept for ttl after the last one. epoch tells
// the life of the log, whose entries have keys of their own: another life gives the same seqs to other entries.
func NewOfflineCache(client redis.UniversalClient, epoch func() string, length int, ttl time.Duration) *OfflineCache {
	return &OfflineCache{client: client, epoch: epoch, length: length, ttl: ttl}
}

// keys are a session's keys; what is in braces decides the slot of a cluster.
func (c *OfflineCache) keys(id uuid.UUID) []string {
	tag := "{" + id.String() + "}:" + c.epoch()
	return []string{"offline:" + tag, "body:" + tag, "generation:" + tag}
}

// appendScript adds entries and trims. KEYS: set, hash, generation. ARGV: length, ttl in ms, generation or "" for any,
// then seq, id, body of each entry. It refuses (0) when a generation was given and is not the present one: what the caller
// read may have been recalled since.
var appendScript = redis.NewScript(`
if ARGV[3] ~= '' and (redis.call('GET', KEYS[3]) or '0') ~= ARGV[3] then return 0 end
for i = 4, #ARGV, 3 do
  redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call('HSET', KEYS[2], ARGV[i + 1], ARGV[i + 2])
end
local excess = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[1])
if excess > 0 then
  local old = redis.call('ZRANGE', KEYS[1], 0, excess - 1)
  for i = 1, #old, 1000 do
    redis.call('HDEL', KEYS[2], unpack(old, i, math.min(i + 999, #old)))
  end
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, excess - 1)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
`)

// rangeScript reads the entries with seq in (from, to]. KEYS as above; ARGV: from, to. It returns the generation and, only
// if there are exactly to-from of them, the bodies in order.
var rangeScript = redis.NewScript(`
local generation = redis.call('GET', KEYS[3]) or '0'
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], ARGV[2])
if #ids == 0 or #ids ~= tonumber(ARGV[2]) - tonumber(ARGV[1]) then return {generation} end
local out = redis.call('HMGET', KEYS[2], unpack(ids))
table.insert(out, 1, generation)
return out
`)

// dropScript forgets a session and moves its generation on. KEYS as above; ARGV: ttl of the generation in ms.
var dropScript = redis.NewScript(`
redis.call('INCR', KEYS[3])
redis.call('PEXPIRE', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1], KEYS[2])
`)

// Append implements offline.Cache.
func (c *OfflineCache) Append(ctx context.Context, batches []offline.Batch) error {
	return c.run(ctx, appendScript, len(batches), func(i int) ([]string, []any) {
		b := batches[i]
		args := make([]any, 3, 3+3*len(b.Entries))
		args[0], args[1], args[2] = c.length, c.ttl.Milliseconds(), b.Generation
		for _, e := range b.Entries {
			args = append(args, e.Seq, e.MessageID.String(), e.Encoded())
		}
		return c.keys(b.Entries[0].SessionID), args
	}, nil)
}

// Drop implements offline.Cache.
func (c *OfflineCache) Drop(ctx context.Context, ids []uuid.UUID) error {
	return c.run(ctx, dropScript, len(ids), func(i int) ([]string, []any) {
		return c.keys(ids[i]), []any{c.ttl.Milliseconds()}
	}, nil)
}

// Read implements offline.Cache.
func (c *OfflineCache) Read(ctx context.Context, ranges []message.Range) ([]offline.Cached, error) {
	out := make([]offline.Cached, len(ranges))
	err := c.run(ctx, rangeScript, len(ranges), func(i int) ([]string, []any) {
		return c.keys(ranges[i].SessionID), []any{ranges[i].From, ranges[i].To}
	}, func(i int, reply any) error {
		items, ok := reply.([]any)
		if !ok || len(items) == 0 {
			return fmt.Errorf("redis gave %T for a range", reply)
		}
		out[i].Generation, _ = items[0].(string)
		for n, item := range items[1:] {
			raw, ok := item.(string)
			if !ok {
				out[i].Entries = nil // a body is missing
				return nil
			}
			e, err := wire.Decode([]byte(raw))
			if err != nil || e.SessionID != ranges[i].SessionID || e.Seq != ranges[i].From+1+int64(n) {
				out[i].Entries = nil
				return nil //nolint:nilerr // what is not as it should be is a miss
			}
			out[i].Entries = append(out[i].Entries, e)
		}
		return nil
	})
	return out, err
}

// Ping implements offline.Cache.
func (c *OfflineCache) Ping(ctx context.Context) error {
	// A write, so that a Redis that only reads, or is full, does not count as well.
	return c.client.Set(ctx, "parley:probe", strconv.FormatInt(int64(c.length), 10), time.Minute).Err()
}

func (c *OfflineCache) run(ctx context.Context, s *redis.Script, n int, call func(i int) ([]string, []any), take func(i int, reply any) error) error {
	return runScript(ctx, c.client, s, n, call, take)
}

// runScript runs a script n times in one pipeline, and once more with its source where the server does not know it yet.
func runScript(ctx context.Context, client redis.UniversalClient, s *redis.Script, n int, call func(i int) ([]string, []any), take func(i int, reply any) error) error {
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
