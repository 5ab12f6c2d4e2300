package offline

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// tripAfter is how many failures in a row open the breaker.
	tripAfter = 3
	// briefly is how long a cache must have been used for its probes to come as soon as before when it fails again.
	briefly = time.Second
	// maxLater is how often the time between probes doubles: up to 2 to 6 s.
	maxLater = 2
)

// use is one of the two ways in which a cache is used. They are counted apart: a cache that is full or only reads goes on
// answering reads.
type use int

const (
	reads use = iota
	writes
)

// breaker keeps a cache that fails from being asked: after tripAfter failures in a row of either use nobody asks until a
// probe succeeds. Probes come every half to one and a half seconds, jittered so that nodes do not probe in step; later each
// time that a cache answers a probe and fails at once again, as one does that is nearly full. Each change is logged once,
// with what serves from now on.
type breaker struct {
	cache    Cache
	clock    clockwork.Clock
	log      *slog.Logger
	opened   prometheus.Counter
	failures [2]atomic.Int32 // by use
	open     atomic.Bool

	now chan struct{}

	mu     sync.Mutex // orders the changes of open, so that each is logged once
	closed time.Time  // when it last answered again
	later  int        // how often the time between probes is doubled
}

func newBreaker(c Cache, clock clockwork.Clock, log *slog.Logger) *breaker {
	return &breaker{cache: c, clock: clock, log: log, now: make(chan struct{}, 1), opened: prometheus.NewCounter(
		prometheus.CounterOpts{Name: "parley_cache_left_total", Help: "How often Redis was given up until it answers again."})}
}

// allows reports whether the cache may be asked.
func (b *breaker) allows() bool { return b.cache != nil && !b.open.Load() }

// start asks for the first time.
func (b *breaker) start(ctx context.Context) {
	if err := b.cache.Ping(ctx); err != nil {
		b.leave(ctx, err)
		return
	}
	b.log.InfoContext(ctx, "redis answers; it serves what it holds")
}

// done takes what came of asking.
func (b *breaker) done(ctx context.Context, u use, err error) {
	if err == nil {
		b.failures[u].Store(0)
		return
	}
	if ctx.Err() == nil && b.failures[u].Add(1) >= tripAfter {
		b.leave(ctx, err)
	}
}

func (b *breaker) leave(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it is the caller who left
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open.Swap(true) {
		return
	}
	if b.clock.Since(b.closed) < briefly {
		b.later = min(b.later+1, maxLater)
	} else {
		b.later = 0
	}
	b.opened.Inc()
	b.log.WarnContext(ctx, "redis is left alone until it answers again; PostgreSQL serves everything", "error", err)
	select {
	case b.now <- struct{}{}:
	default:
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
			wait := b.clock.NewTimer(b.pause())
			select {
			case <-ctx.Done():
				wait.Stop()
				return
			case <-wait.Chan():
			}
			if b.cache.Ping(ctx) == nil {
				b.mu.Lock()
				b.failures[reads].Store(0)
				b.failures[writes].Store(0)
				b.open.Store(false)
				b.closed = b.clock.Now()
				b.mu.Unlock()
				b.log.InfoContext(ctx, "redis answers again; it serves what it holds")
			}
		}
	}
}

// pause is the time to the next probe.
func (b *breaker) pause() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return (500*time.Millisecond + time.Duration(rand.Int64N(int64(time.Second)))) << b.later //nolint:gosec // only spreads load
}
