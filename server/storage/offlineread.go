package storage

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// chunked is what Redis has for a range: chunks as they lie there, and the life that those of use begin with. broken is a
// session's whose key holds something else.
type chunked struct {
	life   string
	chunks []string
	broken bool
}

// chunks reads what there is for those of the ranges that are asked for, in their order. With a *breaker.PartError there is
// nothing of some.
//
// A transaction reads it, which asks for the server's life too. rangeScript does the same where that cannot be: sessions of a
// Cluster lie on several servers, and a server may refuse one of the commands. It costs Redis three times as much, since Lua
// hashes each byte of each string that it is given.
func (c *OfflineCache) chunks(ctx context.Context, ranges []message.Range, ask []int) ([]chunked, error) {
	client, one := c.client.(*redis.Client)
	if !one || c.script.Load() {
		return c.chunksByScript(ctx, ranges, ask)
	}
	out, err := c.chunksAtOnce(ctx, client, ranges, ask)
	var refused redis.Error
	if errors.As(err, &refused) {
		if out, err = c.chunksByScript(ctx, ranges, ask); err == nil {
			c.script.Store(true)
		}
	}
	return out, err
}

var replicationID = regexp.MustCompile(`(?m)^master_replid:([0-9a-f]+)`)

// lifeDigits is how many digits of the replication id the scripts take.
const lifeDigits = 16

func (c *OfflineCache) chunksAtOnce(ctx context.Context, client *redis.Client, ranges []message.Range, ask []int) ([]chunked, error) {
	pipe := client.TxPipeline()
	info := pipe.Info(ctx, "replication")
	within, last := make([]*redis.StringSliceCmd, len(ask)), make([]*redis.StringSliceCmd, len(ask))
	for n, i := range ask {
		key, to := c.keys(ranges[i].SessionID)[0], strconv.FormatInt(ranges[i].To, 10)
		within[n] = pipe.ZRangeByScore(ctx, key, &redis.ZRangeBy{Min: "(" + strconv.FormatInt(ranges[i].From, 10), Max: "(" + to})
		last[n] = pipe.ZRangeByScore(ctx, key, &redis.ZRangeBy{Min: to, Max: "+inf", Count: 1})
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	text, err := info.Result()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	life := ":"
	if id := replicationID.FindStringSubmatch(text); id != nil {
		life = id[1][:min(lifeDigits, len(id[1]))] + life
	}
	out := make([]chunked, len(ask))
	for n := range ask {
		out[n].life = life
		for _, cmd := range []*redis.StringSliceCmd{within[n], last[n]} {
			switch err := cmd.Err(); {
			case err == nil:
				out[n].chunks = append(out[n].chunks, cmd.Val()...)
			case redis.HasErrorPrefix(err, "WRONGTYPE"):
				out[n].broken = true
			default:
				return nil, fmt.Errorf("redis: %w", err)
			}
		}
	}
	return out, nil
}

func (c *OfflineCache) chunksByScript(ctx context.Context, ranges []message.Range, ask []int) ([]chunked, error) {
	calls := slices.Collect(slices.Chunk(ask, c.atOnce(len(ask))))
	found := make([][]chunked, len(calls)) // answers may come in another order
	for n := range calls {
		found[n] = make([]chunked, len(calls[n])) // nothing, of a server that is left alone
	}
	err := runScript(ctx, c.client, breaker.Reads, rangeScript, len(calls), func(n int) (keys []string, args []any) {
		for _, i := range calls[n] {
			keys = append(keys, c.keys(ranges[i].SessionID)[0])
			args = append(args, ranges[i].From, ranges[i].To)
		}
		return keys, args
	}, func(n int, reply any) error {
		items, ok := reply.([]any)
		if !ok || len(items) != len(calls[n])+1 {
			return fmt.Errorf("redis gave %T for ranges", reply)
		}
		life, _ := items[0].(string)
		for k, item := range items[1:] {
			list, ok := item.([]any)
			if !ok {
				return fmt.Errorf("redis gave %T for a range", item)
			}
			got := chunked{life: life, chunks: make([]string, len(list))}
			for at := range list {
				got.chunks[at], _ = list[at].(string)
				got.broken = got.broken || got.chunks[at] == ""
			}
			found[n][k] = got
		}
		return nil
	})
	return slices.Concat(found...), err
}

// joined returns the entries of a range, nil if the chunks do not hold them all, or that a chunk is not what it should be.
// Chunks are ascending by their last seq: what one that begins too late would add is in a later one too, or missing.
func joined(want message.Range, got chunked) (entries []*wire.Entry, broken bool) {
	if got.broken {
		return nil, true
	}
	entries = make([]*wire.Entry, 0, want.To-want.From)
	for _, chunk := range got.chunks {
		chunk, ok := strings.CutPrefix(chunk, got.life)
		if !ok {
			continue
		}
		had := len(entries)
		next := want.From + int64(had) + 1
		raw := unsafe.Slice(unsafe.StringData(chunk), len(chunk)) //nolint:gosec // entries are never written to, so the string may be theirs
		var err error
		if entries, err = wire.OpenChunk(entries, raw, want.SessionID, next-1, want.To); err != nil {
			return nil, true
		}
		if len(entries) > had && entries[had].Seq != next {
			entries = entries[:had]
		}
	}
	if int64(len(entries)) != want.To-want.From {
		return nil, false
	}
	return entries, false
}
