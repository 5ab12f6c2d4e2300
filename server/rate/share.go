package rate

import (
	"context"
	"errors"
	"time"

	"github.com/parley-im/parley/server/breaker"
)

// ask tells the board, together with the token just taken from b, and gives that back where all nodes took too much.
func (l *Limiter) ask(ctx context.Context, s *shelf, b *bucket, k Key, learnt uint64) (wait time.Duration) {
	limit := l.limits[k.Rule]
	b.talk.Lock()
	defer b.talk.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := l.now()
	// Whoever talked before may have told the token as well, and then knows of the others what there is to know.
	known := b.learnt != learnt && b.unsaid == 0
	if !known && l.shares() {
		amount := b.tell(now)
		s.mu.Unlock()
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		owed, err := l.board.Charge(asking, []Charge{{k, amount, limit.window()}})
		cancel()
		l.breaker.Done(ctx, breaker.Writes, err)
		s.mu.Lock()
		if err != nil {
			b.untell(amount, doubtful(err))
			return 0
		}
		l.told.Inc()
		b.learn(now, owed[0])
	}
	if wait = b.debt(l.now()) - limit.window(); wait <= 0 {
		return 0
	}
	b.giveBack(limit.Every)
	l.lineUp(b, k)
	return wait
}

// lineUp puts a bucket in line to be told. The shelf's lock is held.
func (l *Limiter) lineUp(b *bucket, k Key) {
	if b.waiting {
		return
	}
	select {
	case l.line <- k:
		b.waiting = true
	default:
	}
}

// Run tells the board what waits in line, until ctx ends.
func (l *Limiter) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case k := <-l.line:
			l.tell(ctx, l.together(k))
		}
	}
}

// together returns the first key and those that wait behind it.
func (l *Limiter) together(first Key) []Key {
	keys := []Key{first}
	for len(keys) < maxTogether {
		select {
		case k := <-l.line:
			keys = append(keys, k)
		default:
			return keys
		}
	}
	return keys
}

// tell tells the board of many keys in one round trip. Those whom somebody tells of at the moment are left to them.
func (l *Limiter) tell(ctx context.Context, keys []Key) {
	now := l.now()
	charges, buckets := make([]Charge, 0, len(keys)), make([]*bucket, 0, len(keys))
	for _, k := range keys {
		s := l.shelfOf(k)
		s.mu.Lock()
		b, ok := s.buckets.Peek(k)
		if ok {
			b.waiting = false
		}
		if ok && b.talk.TryLock() {
			charges = append(charges, Charge{k, b.tell(now), l.limits[k.Rule].window()})
			buckets = append(buckets, b)
		}
		s.mu.Unlock()
	}
	if len(charges) == 0 {
		return
	}
	owed, err := l.board.Charge(ctx, charges)
	l.breaker.Done(ctx, breaker.Writes, err)
	failed := undone(len(charges), err)
	for i, b := range buckets {
		s := l.shelfOf(charges[i].Key)
		s.mu.Lock()
		if failed[i] {
			b.untell(charges[i].Amount, doubtful(err))
		} else {
			b.learn(now, owed[i])
		}
		s.mu.Unlock()
		b.talk.Unlock()
	}
	for _, not := range failed {
		if !not {
			l.told.Inc()
		}
	}
}

// doubtful reports whether charges that failed may have been made all the same: they were not where no server was asked.
func doubtful(err error) bool {
	part := (*breaker.PartError)(nil)
	return !errors.As(err, &part) || part.Err != nil
}

// undone says of each of n charges whether it was not made, or nobody knows whether it was.
func undone(n int, err error) []bool {
	out := make([]bool, n)
	part := (*breaker.PartError)(nil)
	switch {
	case errors.As(err, &part):
		for _, i := range part.Failed {
			out[i] = true
		}
	case err != nil:
		for i := range out {
			out[i] = true
		}
	}
	return out
}
