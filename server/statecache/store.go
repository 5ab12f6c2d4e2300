package statecache

import (
	"context"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/state"
)

// Config sets the cache's times.
type Config struct {
	// Lease is for how long a lease is there at most.
	Lease time.Duration
	// TTL is for how long a value is there at most.
	TTL time.Duration
}

// DefaultLease is the time of a lease in the server.
const DefaultLease = 2 * time.Second

// Store is state.Store with a cache. Safe for concurrent use.
type Store struct {
	state.Store
	cache   Cache // nil: none
	breaker *breaker.Breaker
	cfg     Config
	clock   clockwork.Clock
	metrics *metrics
	flights *flights
	wake    chan struct{}

	mu      sync.Mutex
	forget  map[state.Key]uint64 // keys whose delete failed; when it was asked for, by count
	asked   uint64
	sent    map[state.Key]struct{} // keys to delete behind the answers of sends
	trusted time.Time              // nothing stored before this is used
	trips   uint64                 // of the breaker, when trusted was set
}

// New returns the store over another one. The cache may be nil: then readings only share flights. reg may be nil.
func New(store state.Store, cache Cache, b *breaker.Breaker, cfg Config, clock clockwork.Clock, reg prometheus.Registerer) *Store {
	s := &Store{Store: store, cache: cache, breaker: b, cfg: cfg, clock: clock, metrics: newMetrics(reg),
		flights: newFlights(store), wake: make(chan struct{}, 1), forget: make(map[state.Key]uint64),
		sent: make(map[state.Key]struct{}), trusted: clock.Now()}
	if b == nil {
		s.cache = nil
	}
	return s
}

// Change implements state.Store. The keys whose states were saved are deleted before it returns, also where the outcome
// is not known.
func (s *Store) Change(ctx context.Context, keys []state.Key, wait bool, fn func(ctx context.Context, l state.Ledger) error) error {
	var saved []state.Key
	err := s.Store.Change(ctx, keys, wait, func(ctx context.Context, l state.Ledger) error {
		return fn(ctx, noting{l, &saved})
	})
	s.Forget(context.WithoutCancel(ctx), saved)
	return err
}

// noting notes what is saved. What a run that was begun again would have saved is deleted too, which does no harm.
type noting struct {
	state.Ledger
	saved *[]state.Key
}

func (n noting) Save(ctx context.Context, moves []state.Move, asked []state.Key) (map[state.Key]int64, int64, error) {
	for _, m := range moves {
		*n.saved = append(*n.saved, m.Key)
	}
	return n.Ledger.Save(ctx, moves, asked)
}

// usable reports whether Redis may be asked, and how old its values may be; negative: as old as they like.
func (s *Store) usable() (maxAge time.Duration, ok bool) {
	if s.cache == nil || !s.breaker.Allows() {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if trips := s.breaker.Trips(); trips != s.trips {
		s.trips = trips
		s.distrust()
	}
	if maxAge = s.clock.Since(s.trusted); maxAge > s.cfg.TTL {
		return -1, true
	}
	return max(maxAge, 0), true
}

// distrust makes the node use nothing that is stored now or under a lease of now. What was to be deleted is then of no
// account. Lock held.
func (s *Store) distrust() {
	s.trusted = s.clock.Now().Add(s.cfg.Lease)
	clear(s.forget)
}

// Distrust makes the node use nothing that is stored now: changes may have been missed.
func (s *Store) Distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.distrust()
}
