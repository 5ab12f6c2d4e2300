package rate

import (
	"context"
	"hash/maphash"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/refusal"
)

// Bounds of a node's memory: about 40 MB at most.
const (
	maxBuckets  = 1 << 17
	shelves     = 16
	maxLine     = 4096 // buckets in line to be told; past it they wait for their next token
	maxTogether = 256  // buckets told in one round trip
)

// askTimeout bounds how long a call waits for the board, before it is decided by what this node knows.
const askTimeout = 100 * time.Millisecond

// Key is whose tokens are taken.
type Key struct {
	Rule Rule
	A, B string // user and device, or one id and nothing
}

// Charge is what a node took from a key, as time; negative: what it gives back.
type Charge struct {
	Key    Key
	Amount time.Duration
	Window time.Duration // the size of the bucket
}

// Board is where nodes tell what they took.
type Board interface {
	// Charge adds each amount to what is owed for its key and returns what is owed then: 0 or more, falling by itself as
	// time passes. Keys are distinct. A *breaker.PartError names those that were not charged, or may not have been; after
	// any other error that is so of all. Safe for concurrent use.
	Charge(ctx context.Context, charges []Charge) (owed []time.Duration, err error)
}

// Limiter gives tokens. Safe for concurrent use.
type Limiter struct {
	limits  Limits
	board   Board // nil: this node is alone
	breaker *breaker.Breaker
	clock   clockwork.Clock
	start   time.Time
	seed    maphash.Seed
	shelf   [shelves]shelf
	line    chan Key
	refused *prometheus.CounterVec
	told    prometheus.Counter
}

type shelf struct {
	mu      sync.Mutex
	buckets *simplelru.LRU[Key, *bucket]
}

// New returns a limiter. board may be nil, and then br is not used; reg may be nil.
func New(limits Limits, board Board, br *breaker.Breaker, clock clockwork.Clock, reg prometheus.Registerer) *Limiter {
	l := &Limiter{limits: limits, board: board, breaker: br, clock: clock, start: clock.Now(), seed: maphash.MakeSeed(),
		line: make(chan Key, maxLine),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_rate_refused_total",
			Help: "What was refused because its rate was too high, by limit."}, []string{"limit"}),
		told: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_rate_shared_total",
			Help: "Buckets told to other nodes over Redis."})}
	for i := range l.shelf {
		l.shelf[i].buckets, _ = simplelru.NewLRU[Key, *bucket](maxBuckets/shelves, nil) // fails for sizes below 1 only
	}
	if reg != nil {
		reg.MustRegister(l.refused, l.told)
	}
	return l
}

// Take takes a token. The refusal is RATE_LIMITED with the metadata limit (the rule's name) and retry_after_ms.
func (l *Limiter) Take(ctx context.Context, k Key) error {
	wait := l.take(ctx, k, l.now())
	if wait <= 0 {
		return nil
	}
	l.refused.WithLabelValues(k.Rule.String()).Inc()
	after := (wait + time.Millisecond - 1) / time.Millisecond
	return refusal.New(refusal.RateLimited, described[k.Rule].refusal, "limit", k.Rule.String(),
		"retry_after_ms", strconv.FormatInt(int64(after), 10))
}

// Return gives a token back that was taken for what then was not done.
func (l *Limiter) Return(k Key) {
	limit := l.limits[k.Rule]
	if limit.Off() {
		return
	}
	s := l.shelfOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets.Peek(k)
	if !ok {
		return
	}
	if b.giveBack(limit.Every); b.unsaid < 0 && l.shares() {
		l.lineUp(b, k)
	}
}

func (l *Limiter) now() time.Duration { return l.clock.Since(l.start) }

func (l *Limiter) shares() bool { return l.board != nil && l.breaker.Allows() }

func (l *Limiter) shelfOf(k Key) *shelf { return &l.shelf[maphash.Comparable(l.seed, k)%shelves] }

// take returns how long to wait; 0 when it took a token.
func (l *Limiter) take(ctx context.Context, k Key, now time.Duration) time.Duration {
	limit := l.limits[k.Rule]
	if limit.Off() {
		return 0
	}
	s := l.shelfOf(k)
	s.mu.Lock()
	b, ok := s.buckets.Get(k)
	if !ok {
		b = &bucket{}
		s.buckets.Add(k, b)
	}
	wait := b.take(now, limit.Every, limit.window())
	if wait > 0 || !l.shares() {
		s.mu.Unlock()
		return wait
	}
	switch b.sharing(now, limit) {
	case atOnce:
		learnt := b.learnt
		s.mu.Unlock()
		return l.ask(ctx, s, b, k, learnt)
	case behind:
		l.lineUp(b, k)
	case alone:
	}
	s.mu.Unlock()
	return 0
}

// Buckets is how many are kept.
func (l *Limiter) Buckets() (n int) {
	for i := range l.shelf {
		s := &l.shelf[i]
		s.mu.Lock()
		n += s.buckets.Len()
		s.mu.Unlock()
	}
	return n
}
