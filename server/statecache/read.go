package statecache

import (
	"bytes"
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/state"
)

// pauses are the times between looks at a key that somebody else reads, each made half as long to half as long again. They
// are gone through twice: the first time for the holder of the lease, the second for whoever took it over.
var pauses = []time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond,
	80 * time.Millisecond, 100 * time.Millisecond}

// looking is one call of Kept: where each of its sessions stands.
type looking struct {
	s      *Store
	userID string
	of     map[uuid.UUID]*look
}

// look is one session of a call.
type look struct {
	key    state.Key
	kept   state.Kept
	done   bool   // kept is what there is
	lease  string // ours; empty: none
	other  string // somebody else's
	direct bool   // to be read from PostgreSQL, and not to be stored
}

// Kept implements state.Store.
func (s *Store) Kept(ctx context.Context, userID string, ranges []message.Range) ([]state.Kept, error) {
	l := &looking{s: s, userID: userID, of: make(map[uuid.UUID]*look, len(ranges))}
	for _, r := range ranges {
		l.of[r.SessionID] = &look{key: state.Key{UserID: userID, SessionID: r.SessionID}}
	}
	for n := 0; l.ask(ctx, n > 0 && n%len(pauses) == 0) && n < 2*len(pauses); n++ {
		if err := s.pause(ctx, pauses[n%len(pauses)]); err != nil {
			return nil, err
		}
	}
	missing := make([]message.Range, 0, len(ranges))
	for _, r := range ranges {
		if !l.of[r.SessionID].done {
			missing = append(missing, r)
		}
	}
	l.count()
	if len(missing) > 0 {
		kept, err := s.flights.read(ctx, userID, missing)
		if err != nil {
			return nil, err
		}
		l.fill(ctx, kept)
		for id, k := range l.of {
			if found, ok := kept[id]; ok && !k.done {
				k.kept, k.done = found, true
			}
		}
	}
	out := make([]state.Kept, 0, len(l.of))
	for _, k := range l.of {
		if k.done {
			out = append(out, k.kept)
		}
	}
	slices.SortFunc(out, func(a, b state.Kept) int { return bytes.Compare(a.SessionID[:], b.SessionID[:]) })
	return out, nil
}

func (s *Store) pause(ctx context.Context, d time.Duration) error {
	s.metrics.waits.Inc()
	t := s.clock.NewTimer(d/2 + mrand.N(d)) //nolint:gosec // only spreads load
	defer t.Stop()
	select {
	case <-t.Chan():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask looks up what is not known yet, in one pipeline, and reports whether waiting may spare the call PostgreSQL: all that
// it still lacks is being read by others.
func (l *looking) ask(ctx context.Context, takeOver bool) (wait bool) {
	trips := l.s.breaker.Trips()
	maxAge, ok := l.s.usable()
	var asks []Ask
	for _, k := range l.of {
		switch {
		case k.done || k.direct:
		case !ok || l.s.forgetting(k.key):
			k.direct = true
		default:
			a := Ask{Key: k.key, Lease: rand.Text()}
			if takeOver {
				a.TakeOver = k.other
			}
			asks = append(asks, a)
		}
	}
	if len(asks) > 0 {
		ctx = context.WithoutCancel(ctx) // who leaves must not look like a failing Redis
		answers, err := l.s.cache.Get(ctx, asks, maxAge)
		l.s.breaker.Done(ctx, breaker.Reads, err)
		for i, a := range asks {
			k := l.of[a.Key.SessionID]
			// Where a server became another one meanwhile, what it holds may be older than maxAge makes sure.
			if err != nil || l.s.breaker.Trips() != trips {
				k.direct = true
				continue
			}
			k.take(a, answers[i])
		}
	}
	for _, k := range l.of {
		if !k.done && (k.direct || k.lease != "") {
			return false
		}
		wait = wait || !k.done
	}
	return wait
}

// forgetting reports whether a key must not be used since it is to be deleted.
func (s *Store) forgetting(key state.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.forget[key]
	return ok
}

func (k *look) take(a Ask, got Answer) {
	k.other = got.Other
	switch {
	case got.Leased:
		k.lease = a.Lease
	case got.Other == "":
		var err error
		k.kept, k.direct, err = decode(a.Key.SessionID, got.Value)
		k.direct = k.direct || err != nil
		k.done = !k.direct
	}
}

// fill stores what was read under leases.
func (l *looking) fill(ctx context.Context, kept map[uuid.UUID]state.Kept) {
	var fills []Fill
	for id, k := range l.of {
		if k.lease != "" {
			found, ok := kept[id]
			fills = append(fills, Fill{Key: k.key, Lease: k.lease, Value: encode(found, ok)})
		}
	}
	if len(fills) == 0 {
		return
	}
	ctx = context.WithoutCancel(ctx)
	stored, err := l.s.cache.Fill(ctx, fills)
	l.s.breaker.Done(ctx, breaker.Writes, err)
	if err != nil {
		count(l.s.metrics.fills, "failed", len(fills))
		return
	}
	count(l.s.metrics.fills, "stored", stored)
	count(l.s.metrics.fills, "refused", len(fills)-stored)
}

func (l *looking) count() {
	var hit, miss, shared, bypass int
	for _, k := range l.of {
		switch {
		case k.done:
			hit++
		case k.lease != "":
			miss++
		case k.direct:
			bypass++
		default:
			shared++
		}
	}
	m := l.s.metrics.reads
	count(m, "hit", hit)
	count(m, "miss", miss)
	count(m, "shared", shared)
	count(m, "bypass", bypass)
}
