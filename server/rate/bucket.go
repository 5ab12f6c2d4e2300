package rate

import (
	"sync"
	"time"
)

// bucket is a token bucket in time: how long it takes to fill again is what was taken from it. Times count from the
// limiter's start. Guarded by the lock of its shelf, but for talk.
type bucket struct {
	full   time.Duration // when it is full again
	unsaid time.Duration // what was taken and is not on the board; negative: to be given back there
	// waiting: it is in line to be told.
	waiting bool
	// learnt counts what was learnt from the board.
	learnt uint64

	// talk is held, before the shelf's lock, while the board is told of it: an answer that does not count what is on its
	// way would let too much pass.
	talk sync.Mutex
}

// debt is what was taken and has not flowed back.
func (b *bucket) debt(now time.Duration) time.Duration { return max(b.full-now, 0) }

// take takes cost out of a bucket of the size window, or returns how long to wait until that is possible.
func (b *bucket) take(now, cost, window time.Duration) (wait time.Duration) {
	debt := b.debt(now)
	if wait = debt + cost - window; wait > 0 {
		return wait
	}
	b.unsaid = min(b.unsaid, debt) + cost
	b.full = now + debt + cost
	return 0
}

// giveBack undoes a take.
func (b *bucket) giveBack(cost time.Duration) {
	b.full -= cost
	b.unsaid -= cost
}

// tell returns what the board has to be told, which counts as told from now on.
func (b *bucket) tell(now time.Duration) time.Duration {
	amount := min(b.unsaid, b.debt(now))
	b.unsaid, b.waiting = 0, false
	return amount
}

// untell takes back a tell that failed. Where nobody knows whether it reached the board, what was taken is not told again,
// since it could count twice and refuse a key below its limit; what is to be given back is.
func (b *bucket) untell(amount time.Duration, doubtful bool) {
	if doubtful {
		amount = min(amount, 0)
	}
	b.unsaid += amount
}

// learn takes the debt of all nodes as it was, at the latest, at a moment.
func (b *bucket) learn(at, debt time.Duration) {
	b.full = max(b.full, at+debt+b.unsaid)
	b.learnt++
}

// How close to its limit a bucket is decides how it is shared. See the package comment.
type sharing uint8

const (
	alone  sharing = iota // nothing need be told yet
	behind                // tell the board soon
	atOnce                // ask the board first
)

const (
	few     = 32   // tokens: a bucket that holds no more asks always
	late    = 2    // past 1/late of the bucket the board is asked
	soon    = 32   // where 1/soon of the bucket is untold it is to be told,
	coarse  = 16   // and where 1/coarse is, at once,
	precise = 1024 // near the limit where 1/precise is
)

func (b *bucket) sharing(now time.Duration, l Limit) sharing {
	window := l.window()
	near := l.Burst <= few || b.debt(now) > window/late
	switch {
	case near && (b.unsaid <= 0 || b.unsaid >= max(l.Every, window/precise)): // not more than 0: after a refusal
		return atOnce
	case b.unsaid >= max(l.Every, window/coarse):
		return atOnce
	case b.unsaid >= window/soon, b.unsaid < 0:
		return behind
	default:
		return alone
	}
}
