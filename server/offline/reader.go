// Package offline reads ranges of the log back, for devices that were away and for streams that fell behind. A range comes
// from the first tier that has all of it: the ring (this node's memory), the cache (Redis), PostgreSQL.
//
// The proof that a range is whole is arithmetic: seqs have no holes, so (from, to] is complete only if it has to-from
// entries, the first of them from+1 and the last to. Whatever a tier returns is held against that before anybody sees it;
// to must be a head learnt from PostgreSQL or from the commit log. What PostgreSQL had to be asked for repairs the cache.
//
// Readings of the same range at the same time share one flight, which has a timeout of its own: whoever waits for it may
// leave. Recalled bodies do not come back from a cache: see Keeper, and ring.Ring's Token.
package offline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/wire"
)

const (
	// flightTimeout bounds one reading from cache and PostgreSQL.
	flightTimeout = 8 * time.Second
	// maxPostgres is how many readings go to PostgreSQL at a time: a quarter of a node's connections (32), so that devices
	// that all come back while Redis is away leave the rest to sends. Others wait, within their flight's timeout.
	maxPostgres = 8
	// maxCache is how many readings the cache is asked at a time. It does one after the other, so that more would only wait
	// there, and come late enough to count as failed.
	maxCache = 4
)

// Source is where all entries are: PostgreSQL.
type Source interface {
	// ListRanges returns the entries of each range, ascending by seq.
	ListRanges(ctx context.Context, ranges []message.Range) ([][]message.Entry, error)
}

// Reader reads through the tiers. Safe for concurrent use.
type Reader struct {
	ring     *ring.Ring
	keeper   *Keeper
	postgres Source
	entries  *prometheus.CounterVec
	fromRing prometheus.Counter
	turns    chan struct{} // holds one for each reading from PostgreSQL
	asking   chan struct{} // holds one for each reading from the cache

	mu      sync.Mutex
	flights map[message.Range]*flight
}

// flight is one reading that several may wait for. Written before done is closed, read after.
type flight struct {
	done    chan struct{}
	entries []*wire.Entry
	err     error
}

// NewReader returns a reader; reg may be nil.
func NewReader(r *ring.Ring, k *Keeper, postgres Source, reg prometheus.Registerer) *Reader {
	rd := &Reader{ring: r, keeper: k, postgres: postgres, flights: make(map[message.Range]*flight), turns: make(chan struct{}, maxPostgres),
		asking: make(chan struct{}, maxCache),
		entries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_read_entries_total",
			Help: "Entries read back, by the tier that had them."}, []string{"tier"})}
	rd.fromRing = rd.entries.WithLabelValues("ring")
	if reg != nil {
		reg.MustRegister(rd.entries)
	}
	return rd
}

// IncompleteError says that PostgreSQL did not have all of a range that must exist.
type IncompleteError struct {
	Range message.Range
	Got   int
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("session %s: %d of the entries after %d up to %d", e.Range.SessionID, e.Got, e.Range.From, e.Range.To)
}

// Entries returns all entries of each range, in order. An entry whose body cannot be decoded comes without it. The error
// is an *IncompleteError when PostgreSQL lacks entries.
func (r *Reader) Entries(ctx context.Context, ranges []message.Range) ([][]message.Entry, error) {
	found, err := r.Read(ctx, ranges)
	if err != nil {
		return nil, err
	}
	out := make([][]message.Entry, len(found))
	for i, entries := range found {
		out[i] = make([]message.Entry, len(entries))
		for n, e := range entries {
			out[i][n] = e.Entry
		}
	}
	return out, nil
}

// Read is Entries, encoded.
func (r *Reader) Read(ctx context.Context, ranges []message.Range) ([][]*wire.Entry, error) {
	out := make([][]*wire.Entry, len(ranges))
	waits := make(map[int]*flight)
	var lead []message.Range
	var led []*flight
	for i, q := range ranges {
		// The newest entries may be nowhere else but in PostgreSQL yet: see Keeper.
		out[i], q = r.ring.Split(q)
		r.entries.WithLabelValues("ring").Add(float64(len(out[i])))
		if q.From >= q.To {
			continue
		}
		f, first := r.board(q)
		waits[i] = f
		if first {
			lead, led = append(lead, q), append(led, f)
		}
	}
	if len(lead) > 0 {
		go r.fly(context.WithoutCancel(ctx), lead, led)
	}
	for i, f := range waits {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if f.err != nil {
			return nil, f.err
		}
		if len(out[i]) == 0 {
			out[i] = f.entries
		} else {
			out[i] = slices.Concat(f.entries, out[i]) // the flight's are shared
		}
	}
	return out, nil
}

// Recent returns a range that is in the ring.
func (r *Reader) Recent(q message.Range) ([]*wire.Entry, bool) {
	found, ok := r.ring.Range(q)
	if ok {
		r.fromRing.Add(float64(len(found)))
	}
	return found, ok
}

// board joins the flight of a range, or begins one: then first is true and the caller must fly it.
func (r *Reader) board(q message.Range) (f *flight, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f = r.flights[q]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	r.flights[q] = f
	return f, true
}

func (r *Reader) fly(ctx context.Context, ranges []message.Range, flights []*flight) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout)
	defer cancel()
	found, err := r.lower(ctx, ranges)
	r.mu.Lock()
	for _, q := range ranges {
		delete(r.flights, q)
	}
	r.mu.Unlock()
	for i, f := range flights {
		if f.err = err; err == nil {
			f.entries = found[i]
		}
		close(f.done)
	}
}

// lower reads from the tiers below the ring.
func (r *Reader) lower(ctx context.Context, ranges []message.Range) ([][]*wire.Entry, error) {
	token := r.ring.Token()
	out := make([][]*wire.Entry, len(ranges))
	for i, q := range ranges { // a flight that landed between this caller's look at the ring and its boarding filled it
		if found, ok := r.Recent(q); ok {
			out[i] = found
		}
	}
	leases := r.fromCache(ctx, ranges, out)
	var missing []message.Range
	var places []int
	for i, q := range ranges {
		if out[i] == nil {
			missing, places = append(missing, q), append(places, i)
		}
	}
	if len(missing) > 0 {
		rows, err := r.fromPostgres(ctx, missing)
		if err != nil {
			return nil, err
		}
		for n, q := range missing {
			if !Complete(q, rows[n]) {
				return nil, &IncompleteError{Range: q, Got: len(rows[n])}
			}
			out[places[n]] = encode(rows[n])
			if lease := leases[places[n]]; lease != "" && len(rows[n]) > 0 {
				r.keeper.Repair(Batch{Lease: lease, Entries: out[places[n]]})
			}
			r.entries.WithLabelValues("postgres").Add(float64(len(rows[n])))
		}
	}
	for _, entries := range out {
		r.ring.Fill(token, entries)
	}
	return out, nil
}

// fromPostgres reads what no cache has, with at most maxPostgres readings at a time.
func (r *Reader) fromPostgres(ctx context.Context, ranges []message.Range) ([][]message.Entry, error) {
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to read from PostgreSQL: %w", ctx.Err())
	}
	return r.postgres.ListRanges(ctx, ranges)
}

// fromCache fills out with those of the ranges still missing that the cache has, in one round trip, and returns the leases to
// repair the others.
func (r *Reader) fromCache(ctx context.Context, ranges []message.Range, out [][]*wire.Entry) map[int]string {
	if !r.keeper.breaker.Allows() {
		return nil
	}
	var ask []message.Range
	var places []int
	for i, q := range ranges {
		if out[i] == nil && q.To > q.From && r.keeper.usable(q.SessionID) {
			ask, places = append(ask, q), append(places, i)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	cached, err := r.askCache(ctx, ask)
	if err != nil {
		return nil
	}
	leases := make(map[int]string, len(ask))
	for n, c := range cached {
		switch {
		case c.Broken:
			r.keeper.Forget(ask[n].SessionID)
		case !r.keeper.usable(ask[n].SessionID):
			// Asked again: what was read while something was recalled is not used.
		case int64(len(c.Entries)) == ask[n].To-ask[n].From:
			out[places[n]] = c.Entries
			r.entries.WithLabelValues("redis").Add(float64(len(c.Entries)))
		default:
			leases[places[n]] = c.Lease
		}
	}
	return leases
}

// askCache reads from the cache, with at most maxCache readings at a time.
func (r *Reader) askCache(ctx context.Context, ranges []message.Range) ([]Cached, error) {
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !r.keeper.breaker.Allows() {
		return nil, errClosed
	}
	cached, err := r.keeper.cache.Read(ctx, ranges)
	r.keeper.breaker.Done(ctx, breaker.Reads, err)
	return cached, err
}

var errClosed = errors.New("the cache is not asked")

// encode encodes rows, and takes bodies out of them that cannot be shown.
func encode(rows []message.Entry) []*wire.Entry {
	for n := range rows {
		if e := &rows[n]; !wire.ValidBody(e.Body) {
			e.Body = nil
		}
	}
	return wire.EncodeAll(rows)
}

// Complete reports whether entries are exactly those of the range.
func Complete(want message.Range, entries []message.Entry) bool {
	if int64(len(entries)) != want.To-want.From {
		return false
	}
	for i, e := range entries {
		if e.Seq != want.From+1+int64(i) || e.SessionID != want.SessionID {
			return false
		}
	}
	return true
}
