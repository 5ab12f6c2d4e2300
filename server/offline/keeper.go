package offline

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/wire"
)

const (
	// maxKept is how many batches may wait to be appended, and maxKeptBytes how much; more are let go: what the cache lacks
	// is read from PostgreSQL.
	maxKept      = 8192
	maxKeptBytes = 32 << 20
	// keepAtOnce is how many batches are appended before it is looked again what is to be forgotten.
	keepAtOnce = 256
	// maxTogether is how many entries of one session are appended together.
	maxTogether = 256
	// gatherFor is the usual Keeper.GatherFor.
	gatherFor = time.Second
	// MaxForget is how many sessions may wait to be forgotten, which they do while Redis is away. With more the whole cache is
	// cleared instead, and not used before.
	MaxForget = 16_384
	// dropAtOnce is how many sessions one pipeline forgets.
	dropAtOnce = 1000
	// dropRetry is how often forgetting is tried again.
	dropRetry = 500 * time.Millisecond
)

// Keeper writes the cache, behind and in the order of the log: entries after their commit, repairs of what a reader found
// broken, and, at any price, that a session in which something was recalled is forgotten. Until that has succeeded nothing
// of the session is read from the cache or added to it. An append that failed may still take effect a little later, and so
// after the forgetting; a session is forgotten again until that cannot be.
//
// Keeper.mu guards the queue and the sessions to forget; one goroutine (Run) takes from them, a round at a time.
type Keeper struct {
	// GatherFor is the time between two rounds, in which entries of the same sessions gather: a script costs Redis more than
	// what it appends. A round comes earlier when a session is to be forgotten, when much waits, and for repairs: their
	// leases end when the next reader takes one. 1 s by default; not to be changed after Run.
	GatherFor time.Duration

	cache   Cache
	breaker *breaker.Breaker // nil without a cache
	log     *slog.Logger
	clock   clockwork.Clock
	wake    chan struct{}
	lost    prometheus.Counter

	mu      sync.Mutex
	queue   []Batch
	round   []Batch              // taken from queue by the round under way, not written yet
	bytes   int64                // of the entries in queue and round
	repairs bool                 // one waits
	fresh   bool                 // a session to forget that was not tried since it was asked for, or is to be tried again
	last    map[uuid.UUID]int    // by session, the last of its batches in queue that another may be joined to
	forget  map[uuid.UUID]uint64 // when it was asked for, by count; MaxForget at most
	asked   uint64
	clear   clearing

	failed time.Time // when an append last failed; Run's own
}

// clearing is where the keeper stands with clearing the whole cache. While it is not done nothing is read or added. What is to
// be forgotten before it begins needs no note of its own; what comes while it runs does.
type clearing int

const (
	nothingToClear clearing = iota
	toClear
	isClearing
)

// NewKeeper returns a keeper of a cache, which may be nil: then it keeps nothing. reg may be nil.
func NewKeeper(c Cache, clock clockwork.Clock, log *slog.Logger, reg prometheus.Registerer) *Keeper {
	k := &Keeper{GatherFor: gatherFor, cache: c, clock: clock, log: log, wake: make(chan struct{}, 1),
		forget: make(map[uuid.UUID]uint64), last: make(map[uuid.UUID]int), lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_cache_appends_lost_total", Help: "Batches that were not written to Redis."})}
	if c != nil {
		k.breaker = breaker.New(c.Ping, clock, log, reg)
		if parts := c.Parts(); parts != nil {
			k.breaker.Spread(parts)
		}
	}
	if reg != nil {
		reg.MustRegister(k.lost, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_cache_up",
			Help: "1 while Redis is asked, 0 while PostgreSQL serves everything."}, func() float64 {
			if k.breaker.Serves() {
				return 1
			}
			return 0
		}))
	}
	return k
}

// Breaker is the node's one view of whether Redis is to be asked; nil without a cache. Run keeps it probing.
func (k *Keeper) Breaker() *breaker.Breaker { return k.breaker }

// Committed takes entries that were just committed, in order.
func (k *Keeper) Committed(entries []*wire.Entry) {
	if k.cache == nil {
		return
	}
	k.mu.Lock()
	for start := 0; start < len(entries); {
		end := start + 1
		for end < len(entries) && entries[end].SessionID == entries[start].SessionID {
			end++
		}
		k.add(Batch{Entries: entries[start:end]})
		for _, e := range entries[start:end] {
			if e.RecalledSeq != 0 {
				k.forgetNow(e.SessionID)
			}
		}
		start = end
	}
	k.mu.Unlock()
	k.nudge()
}

// Repair takes what a reader had to get from PostgreSQL. It is stored only if nothing was recalled meanwhile.
func (k *Keeper) Repair(b Batch) {
	k.mu.Lock()
	k.add(b)
	k.repairs = true
	k.mu.Unlock()
	k.nudge()
}

// Forget makes the cache forget a session, now or as soon as it can.
func (k *Keeper) Forget(id uuid.UUID) {
	if k.cache == nil {
		return
	}
	k.mu.Lock()
	k.forgetNow(id)
	k.mu.Unlock()
	k.nudge()
}

// forgetNow notes that a session is to be forgotten. What waits to be appended to it is let go: it may have been recalled,
// and its turn may come after the forgetting.
func (k *Keeper) forgetNow(id uuid.UUID) {
	k.letGo(id)
	if k.clear == toClear {
		return
	}
	if _, again := k.forget[id]; !again && len(k.forget) >= MaxForget {
		k.clear = toClear
		clear(k.forget)
		return
	}
	k.asked++
	k.forget[id] = k.asked
	k.fresh = true
}

// letGo drops what waits to be appended to a session.
func (k *Keeper) letGo(id uuid.UUID) {
	delete(k.last, id)
	is := func(b Batch) bool {
		if b.Entries[0].SessionID != id {
			return false
		}
		k.bytes -= size(b)
		return true
	}
	if n := len(k.queue); n > 0 {
		if k.queue = slices.DeleteFunc(k.queue, is); len(k.queue) < n {
			k.relist()
		}
	}
	k.round = slices.DeleteFunc(k.round, is)
}

// relist finds the places of the batches in queue anew.
func (k *Keeper) relist() {
	clear(k.last)
	for at, b := range k.queue {
		k.last[b.Entries[0].SessionID] = at
	}
}

func (k *Keeper) add(b Batch) {
	n := size(b)
	if len(k.queue)+len(k.round) >= maxKept || k.bytes+n > maxKeptBytes {
		k.lost.Inc()
		return
	}
	k.bytes += n
	b.Life = k.cache.Life()
	first := b.Entries[0]
	if at, ok := k.last[first.SessionID]; ok && b.Lease == "" {
		if to := &k.queue[at]; to.Lease == "" && to.Life == b.Life && len(to.Entries)+len(b.Entries) <= maxTogether &&
			to.Entries[len(to.Entries)-1].Seq+1 == first.Seq {
			to.Entries = append(slices.Clip(to.Entries), b.Entries...) // the publisher's own slice is not to be written to
			return
		}
	}
	k.last[first.SessionID] = len(k.queue)
	k.queue = append(k.queue, b)
}

func size(b Batch) (n int64) {
	for _, e := range b.Entries {
		n += int64(e.Size())
	}
	return n
}

func (k *Keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// usable reports whether the cache may be read for a session.
func (k *Keeper) usable(id uuid.UUID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, forgetting := k.forget[id]
	return !forgetting && k.clear == nothingToClear
}

// Run writes until ctx ends. It begins by asking whether the cache is there, and says so.
func (k *Keeper) Run(ctx context.Context) {
	if k.cache == nil {
		k.log.InfoContext(ctx, "no redis is set; PostgreSQL serves what is not in memory")
		return
	}
	var probes sync.WaitGroup
	probes.Go(func() { k.breaker.Run(ctx) })
	defer probes.Wait()
	retry := k.clock.NewTicker(dropRetry)
	defer retry.Stop()
	var ended time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-retry.Chan():
			k.again()
		}
		k.gather(ctx, ended, retry.Chan())
		k.write(ctx)
		ended = k.clock.Now()
	}
}

// gather waits until GatherFor has passed since the last round ended, or nothing may wait any longer.
func (k *Keeper) gather(ctx context.Context, ended time.Time, retry <-chan time.Time) {
	left := k.GatherFor - k.clock.Since(ended)
	if left <= 0 || k.pressing() {
		return
	}
	timer := k.clock.NewTimer(left)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.Chan():
			return
		case <-retry:
			k.again()
		case <-k.wake:
		}
		if k.pressing() {
			return
		}
	}
}

// again makes what is still to be forgotten pressing once more.
func (k *Keeper) again() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fresh = len(k.forget) > 0
}

// pressing reports whether what waits is to be written at once.
func (k *Keeper) pressing() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.repairs || k.fresh || k.clear != nothingToClear || len(k.queue) >= maxKept/4 || k.bytes >= maxKeptBytes/4
}

// write writes one round: all that waits when it begins, in parts. What comes meanwhile gathers for the next one.
func (k *Keeper) write(ctx context.Context) {
	k.mu.Lock()
	k.round, k.queue = k.queue, nil
	k.repairs, k.fresh = false, false
	clear(k.last) // what comes is not joined to what is taken
	k.mu.Unlock()
	drop := true
	for more := true; more; {
		more = k.part(ctx, &drop)
	}
}

// part writes a part of the round and reports whether there is more. It forgets what is to be forgotten while drop is true,
// which is false once that did not succeed: the next round tries again.
func (k *Keeper) part(ctx context.Context, drop *bool) (more bool) {
	k.mu.Lock()
	n := min(len(k.round), keepAtOnce)
	taken := k.round[:n:n]
	k.round = k.round[n:]
	for _, b := range taken {
		k.bytes -= size(b)
	}
	if more = len(k.round) > 0; !more {
		k.round = nil
	}
	all := k.clear != nothingToClear
	forget := make(map[uuid.UUID]uint64, len(k.forget))
	for id, at := range k.forget {
		forget[id] = at
	}
	k.mu.Unlock()

	batches := make([]Batch, 0, n)
	for _, b := range taken {
		if _, dropped := forget[b.Entries[0].SessionID]; !dropped && !all {
			batches = append(batches, b)
		}
	}
	if !k.breaker.Allows() {
		k.lost.Add(float64(len(batches)))
		return more
	}
	if len(batches) > 0 {
		err := k.cache.Append(ctx, batches)
		k.breaker.Done(ctx, breaker.Writes, err)
		if err != nil {
			k.missed(err, len(batches))
		}
	}
	switch {
	case !*drop:
	case all:
		*drop = k.clearAll(ctx)
	case len(forget) > 0:
		*drop = k.drop(ctx, forget)
	}
	return more
}

// missed notes what was not appended of n batches, some of which may still be.
func (k *Keeper) missed(err error, n int) {
	part := (*breaker.PartError)(nil)
	if errors.As(err, &part) {
		n = len(part.Failed)
	}
	k.lost.Add(float64(n))
	if part == nil || part.Err != nil { // something was sent
		k.failed = k.clock.Now()
	}
}

// lateAppends reports whether an append that failed may still take effect.
func (k *Keeper) lateAppends() bool {
	return !k.failed.IsZero() && k.clock.Since(k.failed) <= AppendLateness
}

// clearAll clears the cache, and reports whether that is done; else the ticker tries again.
func (k *Keeper) clearAll(ctx context.Context) bool {
	k.mu.Lock()
	k.clear = isClearing
	clear(k.forget) // of before: it goes with the rest
	k.mu.Unlock()
	early := k.lateAppends()
	err := k.cache.Clear(ctx)
	k.breaker.Done(ctx, breaker.Writes, err)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && !early && k.clear == isClearing {
		k.clear = nothingToClear
		k.log.InfoContext(ctx, "redis was cleared: more recalls waited for it than are kept in mind")
		return true
	}
	k.clear = toClear
	return false
}

// drop forgets sessions in the cache and reports whether that holds for all of them; those asked for again meanwhile stay to
// be forgotten, and those of servers that did not do it.
func (k *Keeper) drop(ctx context.Context, forget map[uuid.UUID]uint64) bool {
	ids := make([]uuid.UUID, 0, len(forget))
	for id := range forget {
		ids = append(ids, id)
	}
	early := k.lateAppends()
	for part := range slices.Chunk(ids, dropAtOnce) {
		err := k.cache.Drop(ctx, part)
		k.breaker.Done(ctx, breaker.Writes, err)
		if partly := (*breaker.PartError)(nil); errors.As(err, &partly) {
			for _, i := range partly.Failed {
				delete(forget, part[i])
			}
		} else if err != nil {
			return false // the ticker tries again
		}
	}
	if early {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, at := range forget {
		if k.forget[id] == at {
			delete(k.forget, id)
		}
	}
	return len(forget) == len(ids)
}
