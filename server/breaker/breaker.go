// Package breaker keeps a cache that fails from being asked. A node has one breaker for its Redis, shared by all that use
// it, so that what one of them finds out spares the others the wait.
package breaker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// tripAfter is how many failures in a row open the breaker.
const tripAfter = 3

// Breaker opens after tripAfter failures in a row: then nobody asks until a probe succeeds. Probes come every half to one
// and a half seconds, jittered so that nodes do not probe in step. The nil pointer never allows anything. Safe for
// concurrent use.
type Breaker struct {
	ping     func(ctx context.Context) error
	clock    clockwork.Clock
	log      *slog.Logger
	failures atomic.Int32
	open     atomic.Bool
	trips    atomic.Uint64

	mu  sync.Mutex // orders the changes of open, so that each is logged once
	now chan struct{}
}

// New returns a closed breaker. ping reports whether the cache answers and takes writes.
func New(ping func(ctx context.Context) error, clock clockwork.Clock, log *slog.Logger) *Breaker {
	return &Breaker{ping: ping, clock: clock, log: log, now: make(chan struct{}, 1)}
}

// Allows reports whether the cache may be asked.
func (b *Breaker) Allows() bool { return b != nil && !b.open.Load() }

// Trips is how often the breaker has opened. Who finds it changed knows that writes to the cache were left out.
func (b *Breaker) Trips() uint64 { return b.trips.Load() }

// Done takes what came of asking.
func (b *Breaker) Done(ctx context.Context, err error) {
	if err == nil {
		b.failures.Store(0)
		return
	}
	if b.failures.Add(1) < tripAfter {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open.Load() {
		return
	}
	b.trips.Add(1) // before open, so that nobody who saw it open sees the old number later
	b.open.Store(true)
	b.log.WarnContext(ctx, "redis is left alone until it answers again; PostgreSQL serves everything", "error", err)
	select {
	case b.now <- struct{}{}:
	default:
	}
}

// Run probes while the breaker is open, until ctx ends.
func (b *Breaker) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.now:
		}
		for b.open.Load() {
			wait := b.clock.NewTimer(500*time.Millisecond + time.Duration(rand.Int64N(int64(time.Second)))) //nolint:gosec // only spreads load
			select {
			case <-ctx.Done():
				wait.Stop()
				return
			case <-wait.Chan():
			}
			if b.ping(ctx) == nil {
				b.mu.Lock()
				b.failures.Store(0)
				b.open.Store(false)
				b.mu.Unlock()
				b.log.InfoContext(ctx, "redis answers again")
			}
		}
	}
}
