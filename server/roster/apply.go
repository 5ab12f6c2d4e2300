package roster

import (
	"context"
	"errors"
	"time"

	"github.com/parley-im/parley/server/feed"
)

// Apply takes what the feed told: the rows are read again and stored. What cannot be read now stays pending, so that
// nothing is answered, and is tried again by Polled.
func (r *Roster) Apply(ctx context.Context, changed []feed.Relation) {
	if len(changed) == 0 {
		return
	}
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	r.mu.Lock()
	inUse := r.graph != nil
	if r.loading {
		for _, key := range changed {
			r.late[key] = struct{}{}
		}
	}
	if inUse {
		for _, key := range changed {
			r.pending[key] = struct{}{}
		}
	}
	tooMany := len(r.late) > maxPending || len(r.pending) > maxPending
	r.mu.Unlock()
	switch {
	case tooMany:
		r.log.WarnContext(ctx, "relation map reloads: too many changes wait", "max", maxPending)
		r.Lost()
	case inUse:
		r.settle(ctx)
	}
}

// Polled tells that a poll which began at that time has succeeded, and that all it found was given to Apply.
func (r *Roster) Polled(ctx context.Context, began time.Time) {
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	r.settle(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.graph == nil || len(r.pending) > 0 {
		return
	}
	if began.After(r.asOf) {
		r.asOf = began
	}
	for user, at := range r.doubts {
		if began.After(at) {
			delete(r.doubts, user)
		}
	}
	if began.After(r.doubted) {
		r.doubted = time.Time{}
	}
}

// Doubt tells that the user or a device of the user was changed through this node just now: nothing is answered about
// the user's devices until a poll that began later has brought the change.
func (r *Roster) Doubt(userID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.doubts) >= maxDoubts {
		clear(r.doubts)
		r.doubted = r.clock.Now()
	}
	r.doubts[userID] = r.clock.Now()
}

// settle reads pending rows again and stores them. Called with applyMu held.
func (r *Roster) settle(ctx context.Context) {
	byKind, life := r.waiting()
	if len(byKind) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	for kind, keys := range byKind {
		for len(keys) > 0 {
			part := keys[:min(chunk, len(keys))]
			keys = keys[len(part):]
			rows, err := r.store.Again(ctx, kind, part)
			if err != nil {
				r.log.WarnContext(ctx, "relation map waits: changed rows could not be read", "error", err)
				return
			}
			if err := r.storeRows(life, part, rows); err != nil {
				r.log.WarnContext(ctx, "relation map let go", "error", err)
				return
			}
		}
	}
}

// waiting returns what is pending, by kind.
func (r *Roster) waiting() (byKind map[feed.RelationKind][]feed.Relation, life int64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for key := range r.pending {
		if byKind == nil {
			byKind = make(map[feed.RelationKind][]feed.Relation)
		}
		byKind[key.Kind] = append(byKind[key.Kind], key)
	}
	return byKind, r.life
}

// storeRows puts rows in the place of those with these keys; what is not among rows goes.
func (r *Roster) storeRows(life int64, keys []feed.Relation, rows []Row) error {
	there := make(map[feed.Relation]struct{}, len(rows))
	for _, row := range rows {
		there[row.Relation] = struct{}{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.graph == nil || r.life != life {
		return nil
	}
	for _, key := range keys {
		if _, ok := there[key]; !ok {
			r.graph.remove(key)
		}
	}
	var err error
	for _, row := range rows {
		err = errors.Join(err, r.graph.put(row))
	}
	if err == nil && r.graph.bytes() > r.cfg.MaxBytes {
		err = ErrTooLarge
	}
	if err != nil {
		r.drop()
		r.life++
		r.nudge()
		return err
	}
	for _, key := range keys {
		delete(r.pending, key)
	}
	r.metrics.applied.Add(float64(len(keys)))
	if r.graph.wasteful() {
		r.nudge()
	}
	return nil
}
