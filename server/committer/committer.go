// Package committer is the only way into the log: group commit. Callers wait while a worker commits everything that has
// gathered for its sessions in one transaction, so that many messages share one fsync and one round trip.
//
// A session always belongs to the same worker of a node (sessions of other nodes' workers are kept apart by the lock on
// the session's row), so what one caller sends in order is committed in order. A worker takes everything that waits, with
// no artificial delay, at most MaxBatch drafts or MaxBatchBytes at once; while it commits, the next batch gathers. Changes
// of sessions (members, recalls, settings) run one by one between the batches.
//
// After the commit, and not before, the callers are answered; then the new entries go to the Publisher, from one
// goroutine per worker, so that each session's entries arrive there in seq order and a slow publisher holds up no commit
// before its queue of maxUnpublished batches is full. Nothing that the publisher does can fail a send.
//
// Owners: a worker's queue is guarded by worker.mu; workers and publishers are started by New and waited for by Close.
package committer

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// Bounds of a worker.
const (
	// MaxBatch is how many drafts one transaction takes at most.
	MaxBatch = 1024
	// MaxBatchBytes is how many bytes of bodies one transaction takes at most (a single larger body still goes).
	MaxBatchBytes = 4 << 20
	// MaxWaiting is how many drafts and changes may wait for one worker; more are refused with OVERLOADED.
	MaxWaiting = 16 * MaxBatch
	// maxUnpublished is how many committed batches may wait for the publisher before commits wait too.
	maxUnpublished = 64
	// commitTimeout bounds one transaction. After it the outcome is unknown and the senders are told so.
	commitTimeout = 10 * time.Second
)

// Outcome is the answer to one draft.
type Outcome struct {
	Receipt message.Receipt
	// New is true when this draft made an entry, false when it repeated an earlier one or was refused.
	New bool
	// Err is the refusal, nil when committed.
	Err error
}

// Store commits. Implemented by storage.
type Store interface {
	// Append judges and commits drafts in one transaction and one round trip; an outcome per draft, in order. The drafts
	// do not repeat a (session, message id, sender). An error means that the outcome is unknown or that nothing was done.
	Append(ctx context.Context, drafts []message.Draft, now time.Time) ([]Outcome, error)
	// WithLog runs a change in one transaction that holds the session's lock and returns the entries it appended.
	WithLog(ctx context.Context, sessionID uuid.UUID, fn session.Change) ([]message.Entry, error)
}

// Publisher takes committed entries, those of a session in seq order (with gaps where other nodes or an uncertain
// commit made entries). It must not block on readers.
type Publisher interface {
	Publish(entries []message.Entry)
	// DirectStarted tells that a direct session got its first entry.
	DirectStarted(sessionID uuid.UUID, users [2]string)
}

// Committer distributes sessions over workers. Safe for concurrent use.
type Committer struct {
	store   Store
	pub     Publisher
	clock   clockwork.Clock
	log     *slog.Logger
	metrics *Metrics
	seed    maphash.Seed
	workers []*worker
	sent    atomic.Int64
	wg      sync.WaitGroup
}

// New starts n workers (at least 1). Close stops them.
func New(n int, store Store, pub Publisher, clock clockwork.Clock, log *slog.Logger, m *Metrics) *Committer {
	c := &Committer{store: store, pub: pub, clock: clock, log: log, metrics: m, seed: maphash.MakeSeed()}
	for range max(n, 1) {
		w := &worker{c: c, wake: make(chan struct{}, 1), published: make(chan published, maxUnpublished)}
		c.workers = append(c.workers, w)
		c.wg.Go(w.run)
		c.wg.Go(w.publish)
	}
	return c
}

// Sent is how many messages this node has committed.
func (c *Committer) Sent() int64 { return c.sent.Load() }

// Waiting is how many drafts and changes wait for a worker.
func (c *Committer) Waiting() (n int) {
	for _, w := range c.workers {
		w.mu.Lock()
		n += len(w.waiting)
		w.mu.Unlock()
	}
	return n
}

func (c *Committer) worker(id uuid.UUID) *worker {
	return c.workers[maphash.Bytes(c.seed, id[:])%uint64(len(c.workers))]
}

// Send commits drafts and returns an outcome for each, in order. Drafts are independent of each other; those of one
// session are committed in the order given. The error is the context's: then the outcomes are unknown.
func (c *Committer) Send(ctx context.Context, drafts []message.Draft) ([]Outcome, error) {
	out := make([]Outcome, len(drafts))
	done := &latch{ch: make(chan struct{})}
	done.n.Store(int64(len(drafts)) + 1)
	for i := range drafts {
		it := item{ctx: ctx, draft: &drafts[i], out: &out[i], done: done}
		if !c.worker(drafts[i].SessionID).put(it) {
			out[i].Err = overloaded
			done.release()
		}
	}
	done.release()
	if err := done.wait(ctx); err != nil {
		return nil, err
	}
	return out, nil
}

// Change implements session.Committer.
func (c *Committer) Change(ctx context.Context, sessionID uuid.UUID, fn session.Change) error {
	done := &latch{ch: make(chan struct{})}
	done.n.Store(1)
	var out Outcome
	if !c.worker(sessionID).put(item{ctx: ctx, change: fn, sessionID: sessionID, out: &out, done: done}) {
		return overloaded
	}
	if err := done.wait(ctx); err != nil {
		return err
	}
	return out.Err
}

// Close lets what waits be committed and published, refuses what comes later, and returns when all workers have ended.
func (c *Committer) Close() {
	for _, w := range c.workers {
		w.close()
	}
	c.wg.Wait()
}

var (
	overloaded = refusal.New(refusal.Overloaded, "Too many messages wait to be committed; repeat the call later.",
		"retry_after_ms", "500")
	closing = refusal.New(refusal.ShuttingDown, "This node is going down; repeat the call.", "retry_after_ms", "100")
)

// latch opens when n reaches 0.
type latch struct {
	n  atomic.Int64
	ch chan struct{}
}

func (l *latch) release() {
	if l.n.Add(-1) == 0 {
		close(l.ch)
	}
}

func (l *latch) wait(ctx context.Context) error {
	select {
	case <-l.ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
