package roster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/feed"
)

const (
	// MaxAge is how old the map may be and still answer.
	MaxAge = 5 * time.Second
	// MaxDeviceAge is the same for whether a device may call. It is shorter, so that a revocation holds on all nodes in
	// time even if the feed of one is stuck.
	MaxDeviceAge = 1500 * time.Millisecond
	// DefaultMaxBytes bounds the map where Config says nothing: about 40 M memberships.
	DefaultMaxBytes = 2 << 30
	// MaxBytes is the most that Config may allow: an arena's places are numbered with 32 bits.
	MaxBytes = 16 << 30

	// maxPending bounds the changes that wait, about 150 bytes each; past it the map is loaded again.
	maxPending = 500_000
	// maxDoubts bounds the users in doubt; past it everything is, until the next poll.
	maxDoubts = 10_000
	// chunk is how many rows are read again by one query, and stored under one lock.
	chunk = 5_000
	// applyTimeout bounds reading changed rows again; what is left is tried at the next poll.
	applyTimeout = 5 * time.Second
	// loadTimeout bounds one load.
	loadTimeout = 10 * time.Minute
	// retryAfter is the pause after a load that failed, largeRetryAfter after one that found too much.
	retryAfter      = 2 * time.Second
	largeRetryAfter = 10 * time.Minute
)

// Store reads the relations from PostgreSQL. Implemented by storage; safe for concurrent use.
type Store interface {
	// Scan runs in one REPEATABLE READ snapshot: it gives every row to v, then computes the sums if asked to. A nil v
	// means that no rows are read. It ends when ctx does, and with the error of v.
	Scan(ctx context.Context, v Visitor, sums bool) (Sums, error)
	// Again returns the rows with these keys as they are now, in no order; keys all have the given kind. Those that are
	// not there are left out.
	Again(ctx context.Context, kind feed.RelationKind, keys []feed.Relation) ([]Row, error)
}

// Config bounds the map.
type Config struct {
	// MaxBytes is the memory that the map may take, at most 16 GiB; 0 means DefaultMaxBytes.
	MaxBytes int64
}

// Roster is the relation map with its age. Its methods are safe for concurrent use, but for Apply, Polled and Lost, which
// the feed's goroutine calls.
type Roster struct {
	store   Store
	cfg     Config
	clock   clockwork.Clock
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{} // tells Run that there is something to load

	loadMu  sync.Mutex
	applyMu sync.Mutex

	mu      sync.RWMutex
	graph   *graph    // nil: not loaded
	asOf    time.Time // everything committed before it is in the graph, as long as nothing is pending
	life    int64     // raised by Lost: a load that began before is void
	loading bool
	pending map[feed.Relation]struct{} // changed, and not yet read again
	late    map[feed.Relation]struct{} // told while loading: to be read again after it
	doubts  map[string]time.Time       // users whose devices changed here just now
	doubted time.Time                  // since when all are in doubt; zero when they are not
}

// New returns a map that is not loaded and answers nothing. reg may be nil.
func New(store Store, cfg Config, clock clockwork.Clock, log *slog.Logger, reg prometheus.Registerer) *Roster {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	cfg.MaxBytes = min(cfg.MaxBytes, MaxBytes)
	r := &Roster{store: store, cfg: cfg, clock: clock, log: log, wake: make(chan struct{}, 1),
		pending: make(map[feed.Relation]struct{}), late: make(map[feed.Relation]struct{}), doubts: make(map[string]time.Time)}
	r.metrics = newMetrics(r, reg)
	return r
}

// Run keeps the map loaded until ctx ends: at once, after a gap in the feed, and when too much of it is waste. The feed
// must have started.
func (r *Roster) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if r.wanted() {
			if pause := r.tryLoad(ctx); pause > 0 {
				timer := r.clock.NewTimer(pause)
				select {
				case <-ctx.Done():
				case <-timer.Chan():
				}
				timer.Stop()
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		}
	}
}

func (r *Roster) wanted() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.graph == nil || r.graph.wasteful()
}

func (r *Roster) tryLoad(ctx context.Context) (pause time.Duration) {
	switch err := r.Load(ctx); {
	case err == nil, ctx.Err() != nil, errors.Is(err, errSuperseded):
		return 0
	case errors.Is(err, ErrTooLarge):
		r.log.WarnContext(ctx, "relation map not kept: it is larger than PARLEY_ROSTER_MAX_MB; answering from PostgreSQL",
			"max_bytes", r.cfg.MaxBytes)
		return largeRetryAfter
	default:
		r.log.WarnContext(ctx, "relation map not loaded; answering from PostgreSQL", "error", err)
		return retryAfter
	}
}

// errSuperseded: the feed had a gap while loading.
var errSuperseded = errors.New("the feed had a gap while the relation map was loaded")

// Load reads everything from one snapshot and takes it as the map. A map that is in use goes on answering meanwhile. The
// feed must have started: what commits after its start and before the snapshot is in the snapshot, what commits later it
// tells. Errors: ErrTooLarge, and what the store fails with.
func (r *Roster) Load(ctx context.Context) error {
	r.loadMu.Lock()
	defer r.loadMu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	life, began := r.beginLoad()
	b := newBuilder(r.cfg.MaxBytes)
	_, err := r.store.Scan(ctx, b, false)
	var g *graph
	if err == nil {
		g, err = b.graph()
	}
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	if err = r.endLoad(g, life, began, err); err != nil {
		r.metrics.loads.WithLabelValues("failed").Inc()
		return fmt.Errorf("load the relation map: %w", err)
	}
	took := r.clock.Since(began)
	r.metrics.loads.WithLabelValues("done").Inc()
	r.metrics.loadSeconds.Set(took.Seconds())
	r.log.InfoContext(ctx, "relation map loaded", "memberships", g.rows[feed.UserToSession], "bytes", g.bytes(), "took", took)
	r.settle(ctx)
	return nil
}

func (r *Roster) beginLoad() (life int64, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loading = true
	clear(r.late)
	return r.life, r.clock.Now()
}

// endLoad puts the new graph in use, or nothing if the load failed or is void. Called with applyMu held.
func (r *Roster) endLoad(g *graph, life int64, began time.Time, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loading = false
	if err == nil && life != r.life {
		err = errSuperseded
	}
	if err != nil {
		if r.graph == nil || errors.Is(err, ErrTooLarge) {
			r.drop()
		}
		r.late = make(map[feed.Relation]struct{})
		return err
	}
	r.graph, r.asOf = g, began
	for key := range r.late {
		r.pending[key] = struct{}{}
	}
	r.late = make(map[feed.Relation]struct{})
	return nil
}

// drop lets go of the graph. Called with mu held.
func (r *Roster) drop() {
	r.graph, r.asOf = nil, time.Time{}
	r.pending = make(map[feed.Relation]struct{})
}

// Lost tells that changes may have been missed: nothing is answered until all is loaded again, which Run does.
func (r *Roster) Lost() {
	r.mu.Lock()
	r.life++
	r.drop()
	clear(r.late)
	r.mu.Unlock()
	r.nudge()
}

func (r *Roster) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
