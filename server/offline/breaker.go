package offline

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

// breaker keeps a cache that fails from being asked: after tripAfter failures in a row nobody asks until a probe
// succeeds. Probes come every half to one and a half seconds, jittered so that nodes do not probe in step.
type breaker struct {
	cache    Cache
	clock    clockwork.Clock
	log      *slog.Logger
	failures atomic.Int32
	open     atomic.Bool

	mu  sync.Mutex // orders the changes of open, so that each is logged once
	now chan struct{}
}

func newBreaker(c Cache, clock clockwork.Clock, log *slog.Logger) *breaker {
	return &breaker{cache: c, clock: clock, log: log, now: make(chan struct{}, 1)}
}

// allows reports whether the cache may be asked.
func (b *breaker) allows() bool { return b.cache != nil && !b.open.Load() }

// done takes what came of asking.
func (b *breaker) done(ctx context.Context, err error) {
	if err == nil {
		b.failures.Store(0)
		return
	}
	if b.failures.Add(1) < tripAfter {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open.Swap(true) {
		b.log.WarnContext(ctx, "redis is left alone until it answers again; PostgreSQL serves everything", "error", err)
		select {
		case b.now <- struct{}{}:
		default:
		}
	}
}

// run probes while the breaker is open, until ctx ends.
func (b *breaker) run(ctx context.Context) {
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
			if b.cache.Ping(ctx) == nil {
				b.mu.Lock()
				b.failures.Store(0)
				b.open.Store(false)
				b.mu.Unlock()
				b.log.InfoContext(ctx, "redis answers again")
			}
		}
	}
}
