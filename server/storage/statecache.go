package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
)

// StateCache is the Redis side of the cache of states: one string per user and session, so that every command and script
// touches a single key and any cluster will do. The string is a value, or a lease ("L" and a token) while somebody reads
// the value from PostgreSQL. That both are in one key makes a plain DEL void the lease together with the value.
type StateCache struct {
	client redis.UniversalClient
	epoch  func() string
	lease  time.Duration
	ttl    time.Duration
}

// NewStateCache returns the cache: values are kept for ttl, leases for lease. epoch tells the life of the log, whose
// states have keys of their own. All nodes must have the same ttl, by which they tell the age of a value.
func NewStateCache(client redis.UniversalClient, epoch func() string, lease, ttl time.Duration) *StateCache {
	return &StateCache{client: client, epoch: epoch, lease: lease, ttl: ttl}
}

// stateFormat is the version of the values; it is part of the key, so that no node reads another's format.
const stateFormat = "state1:"

func (c *StateCache) key(k state.Key) string {
	return stateFormat + k.SessionID.String() + ":" + c.epoch() + ":" + k.UserID
}

const leasePrefix = "L"

// getScript looks a key up, and gives a lease where there is nothing. ARGV: the lease to take, its time in ms, ttl in ms,
// the largest age in ms that a value may have, exclusive (-1: any), and a lease to take over if it is still there. It
// returns 0 and nothing (leased), 1 and the value, or 2 and the lease of somebody else. What is left of a value's ttl
// tells its age by Redis's own clock alone.
var getScript = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
if v then
  if string.sub(v, 1, 1) == 'L' then
    if v ~= ARGV[5] then return {2, v} end
  elseif ARGV[4] == '-1' or tonumber(ARGV[3]) - redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
    return {1, v}
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {0, ''}
`)

// fillScript stores a value while the lease that it was read under is there. ARGV: the lease, the value, ttl in ms.
var fillScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
`)

// Get implements statecache.Cache.
func (c *StateCache) Get(ctx context.Context, asks []statecache.Ask, maxAge time.Duration) ([]statecache.Answer, error) {
	age := maxAge.Milliseconds()
	if maxAge < 0 {
		age = -1
	}
	out := make([]statecache.Answer, len(asks))
	err := runScript(ctx, c.client, breaker.Reads, getScript, len(asks), func(i int) ([]string, []any) {
		return []string{c.key(asks[i].Key)}, []any{leasePrefix + asks[i].Lease, c.lease.Milliseconds(), c.ttl.Milliseconds(), age,
			asks[i].TakeOver}
	}, func(i int, reply any) error {
		pair, ok := reply.([]any)
		if !ok || len(pair) != 2 {
			return fmt.Errorf("redis gave %T for a state", reply)
		}
		kind, _ := pair[0].(int64)
		text, _ := pair[1].(string)
		switch kind {
		case 0:
			out[i].Leased = true
		case 1:
			out[i].Value = text
		default:
			out[i].Other = text
		}
		return nil
	})
	if part := (*breaker.PartError)(nil); errors.As(err, &part) {
		for _, i := range part.Failed {
			out[i] = statecache.Answer{}
		}
		err = nil
	}
	return out, err
}

// Fill implements statecache.Cache.
func (c *StateCache) Fill(ctx context.Context, fills []statecache.Fill) (stored int, err error) {
	err = runScript(ctx, c.client, breaker.Writes, fillScript, len(fills), func(i int) ([]string, []any) {
		return []string{c.key(fills[i].Key)}, []any{leasePrefix + fills[i].Lease, fills[i].Value, c.ttl.Milliseconds()}
	}, func(_ int, reply any) error {
		n, _ := reply.(int64)
		stored += int(n)
		return nil
	})
	return stored, err
}

// Forget implements statecache.Cache.
func (c *StateCache) Forget(ctx context.Context, keys []state.Key) error {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = c.key(k)
	}
	if len(names) == 0 {
		return nil
	}
	if cluster, ok := c.client.(*Cluster); ok { // there they are in different slots
		return cluster.each(ctx, breaker.Writes, len(names), func(i int) string { return names[i] }, func(m *master, items []int) error {
			ctx, cancel := context.WithTimeout(ctx, redisTimeout)
			defer cancel()
			_, err := m.client.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, name := range some(names, items) {
					p.Del(ctx, name)
				}
				return nil
			})
			return err
		})
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := c.client.Del(ctx, names...).Err(); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}
