package statecache

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/state"
)

const (
	// maxForget is how many keys may wait for their delete to be tried again. With more the node trusts nothing stored
	// before instead.
	maxForget = 16_384
	// maxSent is how many keys of senders may wait to be deleted. More are left to the feed.
	maxSent = 16_384
	// forgetAtOnce is how many keys one pipeline deletes.
	forgetAtOnce = 1_000
	// forgetRetry is how often deletes that failed are tried again.
	forgetRetry = 500 * time.Millisecond
)

// Forget deletes keys, each once. Until that has succeeded this node does not use the cache for them.
func (s *Store) Forget(ctx context.Context, keys []state.Key) {
	if s.cache == nil {
		return
	}
	for part := range slices.Chunk(keys, forgetAtOnce) {
		if !s.breaker.Allows() {
			// When it is closed again nothing that was stored before is trusted: see usable.
			count(s.metrics.deletes, "skipped", len(part))
			continue
		}
		err := s.cache.Forget(ctx, part)
		s.breaker.Done(ctx, breaker.Writes, err)
		failed := undone(part, err)
		count(s.metrics.deletes, "failed", len(failed))
		s.remember(failed)
		count(s.metrics.deletes, "done", len(part)-len(failed))
	}
}

// undone are the keys that were not deleted.
func undone(keys []state.Key, err error) []state.Key {
	part := (*breaker.PartError)(nil)
	if !errors.As(err, &part) {
		if err == nil {
			return nil
		}
		return keys
	}
	failed := make([]state.Key, len(part.Failed))
	for n, i := range part.Failed {
		failed[n] = keys[i]
	}
	return failed
}

func (s *Store) remember(keys []state.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.forget)+len(keys) > maxForget {
		s.distrust()
		return
	}
	for _, k := range keys {
		s.asked++
		s.forget[k] = s.asked
	}
}

// Sent takes entries that were just committed, whose senders' watermarks moved with them. It never blocks.
func (s *Store) Sent(entries []message.Entry) {
	if s.cache == nil {
		return
	}
	dropped := 0
	s.mu.Lock()
	for _, e := range entries {
		if !e.Type.Countable() {
			continue
		}
		if len(s.sent) >= maxSent {
			dropped++
			continue
		}
		s.sent[state.Key{UserID: e.SenderID, SessionID: e.SessionID}] = struct{}{}
	}
	s.mu.Unlock()
	count(s.metrics.deletes, "dropped", dropped)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run deletes what waits until ctx ends, then waits for flights that are under way.
func (s *Store) Run(ctx context.Context) {
	defer s.flights.wg.Wait()
	retry := s.clock.NewTicker(forgetRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			s.Forget(ctx, s.takeSent())
		case <-retry.Chan():
			s.again(ctx)
		}
	}
}

func (s *Store) takeSent() []state.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]state.Key, 0, len(s.sent))
	for k := range s.sent {
		keys = append(keys, k)
	}
	s.sent = make(map[state.Key]struct{})
	return keys
}

// again tries the deletes that failed. Keys that were to be deleted anew meanwhile stay.
func (s *Store) again(ctx context.Context) {
	if _, ok := s.usable(); !ok {
		return
	}
	s.mu.Lock()
	at := make(map[state.Key]uint64, len(s.forget))
	keys := make([]state.Key, 0, len(s.forget))
	for k, n := range s.forget {
		at[k] = n
		keys = append(keys, k)
	}
	s.mu.Unlock()
	for part := range slices.Chunk(keys, forgetAtOnce) {
		err := s.cache.Forget(ctx, part)
		s.breaker.Done(ctx, breaker.Writes, err)
		failed := undone(part, err) // the ticker tries again
		for _, k := range failed {
			delete(at, k)
		}
		count(s.metrics.deletes, "done", len(part)-len(failed))
		s.mu.Lock()
		for _, k := range part {
			if n, done := at[k]; done && s.forget[k] == n {
				delete(s.forget, k)
			}
		}
		s.mu.Unlock()
		if len(failed) == len(part) {
			return
		}
	}
}
