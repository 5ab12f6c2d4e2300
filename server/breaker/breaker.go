// Package breaker keeps a cache that fails from being asked. A node has one breaker for its Redis, shared by all that use
// it, so that what one of them finds out spares the others the wait.
package breaker

import (
	"context"
	"errors"
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

// Use is one of the two ways in which a cache is used. They are counted apart: a cache that is full or only reads goes on
// answering reads.
type Use int

// The ways.
const (
	Reads Use = iota
	Writes
)

// Breaker opens after tripAfter failures in a row of either use: then nobody asks until a probe succeeds. Probes come every
// half to one and a half seconds, jittered so that nodes do not probe in step; later each time that a cache answers a probe
// and fails at once again, as one does that is nearly full. Each change is logged once, with what serves from now on. The
// nil pointer never allows anything. Safe for concurrent use.
type Breaker struct {
	ping     func(ctx context.Context) error
	clock    clockwork.Clock
	log      *slog.Logger
	isPart   bool            // of one server of several
	parts    Parts           // nil: the cache is one server
	failures [2]atomic.Int32 // by use
	open     atomic.Bool
	trips    atomic.Uint64

	now chan struct{}

	mu     sync.Mutex // orders the changes of open, so that each is logged once
	closed time.Time  // when the cache last answered again
	later  int        // how often the time between probes is doubled
}

// New returns a closed breaker. ping reports whether the cache answers and takes writes. reg may be nil.
func New(ping func(ctx context.Context) error, clock clockwork.Clock, log *slog.Logger, reg prometheus.Registerer) *Breaker {
	b := &Breaker{ping: ping, clock: clock, log: log, now: make(chan struct{}, 1)}
	if reg != nil {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "parley_cache_left_total",
			Help: "How often Redis, or a server of a Cluster, was given up until it answers again."}, func() float64 {
			if b.parts != nil {
				return float64(b.trips.Load() + b.parts.Lefts())
			}
			return float64(b.trips.Load())
		}))
	}
	return b
}

// NewPart returns the breaker of one server of several, which log names.
func NewPart(ping func(ctx context.Context) error, clock clockwork.Clock, log *slog.Logger) *Breaker {
	b := New(ping, clock, log, nil)
	b.isPart = true
	return b
}

// Spread tells, before Run, that the cache is several servers with breakers of their own. This one then opens only where
// nobody knows what is on which.
func (b *Breaker) Spread(parts Parts) { b.parts = parts }

// Allows reports whether the cache may be asked.
func (b *Breaker) Allows() bool { return b != nil && !b.open.Load() }

// Serves reports whether the cache, or any server of it, is asked.
func (b *Breaker) Serves() bool { return b.Allows() && (b.parts == nil || b.parts.Serves()) }

// Trips changes with each time that the breaker opens, or that a server is another one than before. Who finds it changed knows
// that writes to the cache were left out, or lost.
func (b *Breaker) Trips() uint64 {
	if b == nil {
		return 0
	}
	if b.parts != nil {
		return b.trips.Load() + b.parts.Turns()
	}
	return b.trips.Load()
}

// Done takes what came of asking. A *PartError counts for nothing.
func (b *Breaker) Done(ctx context.Context, u Use, err error) {
	if part := (*PartError)(nil); errors.As(err, &part) {
		return
	}
	if err == nil {
		b.failures[u].Store(0)
		return
	}
	if ctx.Err() == nil && b.failures[u].Add(1) >= tripAfter {
		b.leave(ctx, err)
	}
}

func (b *Breaker) leave(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it is the caller who left
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open.Load() {
		return
	}
	if b.clock.Since(b.closed) < briefly {
		b.later = min(b.later+1, maxLater)
	} else {
		b.later = 0
	}
	if b.isPart {
		b.log.WarnContext(ctx, "redis is left alone until it answers again; PostgreSQL serves what it holds", "error", err)
	} else {
		b.log.WarnContext(ctx, "redis is left alone until it answers again; PostgreSQL serves everything", "error", err)
	}
	b.trips.Add(1) // before open, so that nobody who saw it open sees the old number later
	b.open.Store(true)
	select {
	case b.now <- struct{}{}:
	default:
	}
}

// Run asks once whether the cache is there, and then probes while the breaker is open, until ctx ends.
func (b *Breaker) Run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	if b.parts != nil {
		parts.Go(func() { b.parts.Run(ctx) })
	}
	if err := b.ping(ctx); err != nil {
		b.leave(ctx, err)
	} else {
		b.log.InfoContext(ctx, "redis answers; it serves what it holds")
	}
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
			if b.ping(ctx) == nil {
				b.answers(ctx)
			}
		}
	}
}

func (b *Breaker) answers(ctx context.Context) {
	b.mu.Lock()
	b.failures[Reads].Store(0)
	b.failures[Writes].Store(0)
	b.open.Store(false)
	b.closed = b.clock.Now()
	b.mu.Unlock()
	b.log.InfoContext(ctx, "redis answers again; it serves what it holds")
}

// pause is the time to the next probe.
func (b *Breaker) pause() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return (500*time.Millisecond + time.Duration(rand.Int64N(int64(time.Second)))) << b.later //nolint:gosec // only spreads load
}
