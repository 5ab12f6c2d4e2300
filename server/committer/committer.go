// Package committer is the only way into the log: group commit. Callers wait while one transaction commits everything
// that has gathered, so that many messages share one fsync and one round trip.
//
// All sessions share one queue. A worker takes everything that may be committed, with no artificial delay, at most
// MaxBatch drafts or MaxBatchBytes at once; while it commits, the next batch gathers. A batch costs much whatever is in
// it, so a second worker only begins beside the first when at least Worthwhile drafts wait, or when the first has been at
// it for Patience. Changes of sessions (members, recalls, settings) run one by one, beside a batch where a worker is left.
//
// A session is in the hands of one worker at a time, and what comes for it meanwhile is held back until that is done:
// what one caller sends in order is committed in order. (Workers of other nodes are kept apart by the lock on the
// session's row.)
//
// After the commit, and not before, the callers are answered; then the new entries go to the Publisher, from one
// goroutine, so that each session's entries arrive there in seq order and a slow publisher holds up no commit before its
// queue of maxUnpublished batches is full. Nothing that the publisher does can fail a send.
//
// Owners: the queue is guarded by queue.mu. Workers start when there is something for them and end when there is not;
// they and the publisher are waited for by Close.
package committer

import (
	"context"
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

// Bounds.
const (
	// MaxBatch is how many drafts one transaction takes at most.
	MaxBatch = 1024
	// MaxBatchBytes is how many bytes of bodies one transaction takes at most (a single larger body still goes).
	MaxBatchBytes = 4 << 20
	// MaxWaiting is how many drafts and changes may wait for each worker that there may be; more are refused with
	// OVERLOADED.
	MaxWaiting = 16 * MaxBatch
	// Worthwhile is how many waiting drafts make it worth to commit them beside another batch.
	Worthwhile = 256
	// Patience is how long a transaction may take before others are committed beside it, however few.
	Patience = 50 * time.Millisecond
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
	// WithLog runs a change in one transaction that holds the session's lock and returns the entries it appended, and the
	// epoch in which they were committed.
	WithLog(ctx context.Context, sessionID uuid.UUID, fn session.Change) (entries []message.Entry, epoch string, err error)
}

// Publisher takes committed entries, those of a session in seq order (with gaps where other nodes or an uncertain
// commit made entries), each time with the epoch in which they were committed: the log may have gone over to another one
// while they waited here, which gives their seqs to other entries. It must not block on readers.
type Publisher interface {
	Publish(epoch string, entries []message.Entry)
	// DirectStarted tells that a direct session got its first entry.
	DirectStarted(epoch string, sessionID uuid.UUID, users [2]string)
}

// Committer commits what it is given, in batches. Safe for concurrent use.
type Committer struct {
	store     Store
	pub       Publisher
	clock     clockwork.Clock
	log       *slog.Logger
	metrics   *Metrics
	queue     queue
	published chan published
	sent      atomic.Int64
	workers   sync.WaitGroup
	publisher sync.WaitGroup
	closeOnce sync.Once
}

// New returns a committer of at most n transactions at a time (at least 1). Close stops it.
func New(n int, store Store, pub Publisher, clock clockwork.Clock, log *slog.Logger, m *Metrics) *Committer {
	c := &Committer{store: store, pub: pub, clock: clock, log: log, metrics: m, published: make(chan published, maxUnpublished)}
	c.queue = queue{most: max(n, 1), busy: make(map[uuid.UUID][]item)}
	c.publisher.Go(c.publish)
	return c
}

// Sent is how many messages this node has committed.
func (c *Committer) Sent() int64 { return c.sent.Load() }

// Waiting is how many drafts and changes wait for a worker.
func (c *Committer) Waiting() int { return c.queue.len() }

// Send commits drafts and returns an outcome for each, in order. Drafts are independent of each other; those of one
// session are committed in the order given. The error is the context's: then the outcomes are unknown.
func (c *Committer) Send(ctx context.Context, drafts []message.Draft) ([]Outcome, error) {
	out := make([]Outcome, len(drafts))
	if len(drafts) == 0 {
		return out, nil
	}
	done := &latch{ch: make(chan struct{})}
	done.n.Store(int64(len(drafts)))
	items := make([]item, len(drafts))
	for i := range drafts {
		items[i] = item{ctx: ctx, session: drafts[i].SessionID, draft: &drafts[i], out: &out[i], done: done}
	}
	c.put(items)
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
	c.put([]item{{ctx: ctx, session: sessionID, change: fn, out: &out, done: done}})
	if err := done.wait(ctx); err != nil {
		return err
	}
	return out.Err
}

// Close lets what waits be committed and published, refuses what comes later, and returns when all workers have ended.
func (c *Committer) Close() {
	c.queue.close()
	c.workers.Wait()
	c.closeOnce.Do(func() { close(c.published) })
	c.publisher.Wait()
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
