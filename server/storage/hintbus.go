package storage

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/hints"
)

// HintBus implements hints.Bus over Redis sharded pub/sub, which Redis has since 7.0.
type HintBus struct {
	client redis.UniversalClient
	links  int
}

// NewHintBus returns a bus. In a cluster each bucket's channels are on one server, which may differ from bucket to
// bucket, so each has a connection; otherwise one connection hears all.
func NewHintBus(client redis.UniversalClient) *HintBus {
	links := 1
	if _, cluster := client.(*Cluster); cluster {
		links = hints.Buckets
	}
	return &HintBus{client: client, links: links}
}

// Links implements hints.Bus.
func (b *HintBus) Links() int { return b.links }

// Publish implements hints.Bus.
func (b *HintBus) Publish(ctx context.Context, out []hints.Outgoing) error {
	if cluster, ok := b.client.(*Cluster); ok { // a master that is mute is not to hold up what goes by the others
		return cluster.each(ctx, breaker.Writes, len(out), func(i int) string { return out[i].Channel.Name },
			func(m *master, items []int) error { return publishTo(ctx, m.client, some(out, items)) })
	}
	return publishTo(ctx, b.client, out)
}

func publishTo(ctx context.Context, client redis.UniversalClient, out []hints.Outgoing) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	pipe := client.Pipeline()
	for _, h := range out {
		pipe.SPublish(ctx, h.Channel.Name, h.Payload)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// Open implements hints.Bus.
func (b *HintBus) Open(ctx context.Context) hints.Subscription {
	return hintSubscription{b.client.SSubscribe(ctx)}
}

type hintSubscription struct{ ps *redis.PubSub }

// Subscribe implements hints.Subscription.
func (s hintSubscription) Subscribe(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return s.ps.SSubscribe(ctx, names...)
}

// Unsubscribe implements hints.Subscription.
func (s hintSubscription) Unsubscribe(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	return s.ps.SUnsubscribe(ctx, names...)
}

// Receive implements hints.Subscription.
func (s hintSubscription) Receive(ctx context.Context) ([]byte, error) {
	for {
		got, err := s.ps.Receive(ctx)
		if err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		if m, ok := got.(*redis.Message); ok {
			return []byte(m.Payload), nil
		}
	}
}

// Close implements hints.Subscription.
func (s hintSubscription) Close() error { return s.ps.Close() }
