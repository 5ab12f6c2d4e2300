package committer

import (
	"context"
	"errors"
	"sync"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// item is a draft or a change that waits. out may be written until done is released.
type item struct {
	ctx       context.Context
	draft     *message.Draft
	change    session.Change
	sessionID uuid.UUID // of a change
	out       *Outcome
	done      *latch
}

func (i item) answer(o Outcome) {
	*i.out = o
	i.done.release()
}

type worker struct {
	c         *Committer
	wake      chan struct{} // has room for one: set after every change of what follows
	published chan published

	mu      sync.Mutex
	waiting []item
	closed  bool
}

// published is what one transaction made.
type published struct {
	entries []message.Entry
	direct  []directStarted
}

type directStarted struct {
	sessionID uuid.UUID
	users     [2]string
}

// put queues an item; false when the queue is full. After close the item is answered at once.
func (w *worker) put(it item) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		it.answer(Outcome{Err: closing})
		return true
	}
	if len(w.waiting) >= MaxWaiting {
		w.mu.Unlock()
		return false
	}
	w.waiting = append(w.waiting, it)
	w.mu.Unlock()
	w.nudge()
	return true
}

func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.nudge()
}

func (w *worker) run() {
	defer close(w.published)
	for range w.wake {
		for {
			w.mu.Lock()
			taken, closed := w.waiting, w.closed
			w.waiting = nil
			w.mu.Unlock()
			if len(taken) == 0 {
				if closed {
					return
				}
				break
			}
			w.commitAll(taken)
		}
	}
}

// commitAll commits the drafts in as few transactions as the bounds allow, then runs the changes one by one. All of them
// were waiting at the same time, so none of their callers can have seen another's answer.
func (w *worker) commitAll(taken []item) {
	batch := make([]item, 0, min(len(taken), MaxBatch))
	bytes := 0
	for _, it := range taken {
		if it.ctx.Err() != nil {
			it.answer(Outcome{Err: it.ctx.Err()}) // the caller has left before anything was done
			continue
		}
		if it.draft == nil {
			continue
		}
		if len(batch) == MaxBatch || (len(batch) > 0 && bytes+len(it.draft.Body) > MaxBatchBytes) {
			w.commit(batch)
			batch, bytes = batch[:0], 0
		}
		batch = append(batch, it)
		bytes += len(it.draft.Body)
	}
	if len(batch) > 0 {
		w.commit(batch)
	}
	for _, it := range taken {
		if it.draft == nil && it.ctx.Err() == nil {
			w.change(it)
		}
	}
}

type dedupKey struct {
	session, message uuid.UUID
	sender           string
}

// commit commits one batch. Repeats of an id within it are folded: they get the answer of the first. Where an id comes
// with another body the batch is cut: whether the id is used by then is known only once the first was judged, and order is
// kept.
func (w *worker) commit(batch []item) {
	firsts := make([]item, 0, len(batch))
	drafts := make([]message.Draft, 0, len(batch))
	var repeats []item
	place := make(map[dedupKey]int, len(batch))
	for n, it := range batch {
		k := dedupKey{it.draft.SessionID, it.draft.MessageID, it.draft.SenderID}
		if at, again := place[k]; again {
			if drafts[at].Digest != it.draft.Digest {
				w.commit(batch[:n])
				w.commit(batch[n:])
				return
			}
			repeats = append(repeats, it)
			continue
		}
		place[k] = len(firsts)
		firsts = append(firsts, it)
		drafts = append(drafts, *it.draft)
	}
	outcomes := w.append(drafts)
	folded := make([]Outcome, len(repeats))
	for n, it := range repeats {
		folded[n] = outcomes[place[dedupKey{it.draft.SessionID, it.draft.MessageID, it.draft.SenderID}]]
		folded[n].New = false
	}
	for n, it := range firsts {
		it.answer(outcomes[n])
	}
	for n, it := range repeats {
		it.answer(folded[n])
	}
	w.handOn(drafts, outcomes)
}

// ErrIDReused is the answer to a message id that came with another body before.
var ErrIDReused = refusal.New(refusal.MessageIDReused, "This message_id was used with another body.")

// append commits drafts. When PostgreSQL refuses the batch as a whole for what one of them holds, each is tried alone, so
// that one bad item never fails the others.
func (w *worker) append(drafts []message.Draft) []Outcome {
	started := w.c.clock.Now()
	//nolint:forbidigo // the batch belongs to many callers, each of whom may leave
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	outcomes, err := w.c.store.Append(ctx, drafts, started)
	w.c.metrics.batch(len(drafts), w.c.clock.Since(started))
	if err == nil {
		return outcomes
	}
	reason, refused := refusal.Of(err)
	if len(drafts) > 1 && !(refused && reason == refusal.Unavailable) && ctx.Err() == nil {
		w.c.log.Error("batch refused, trying its items one by one", "items", len(drafts), "error", err)
		for i := range drafts {
			outcomes = append(outcomes, w.append(drafts[i : i+1])[0])
		}
		return outcomes
	}
	w.c.log.Error("commit failed", "items", len(drafts), "error", err)
	if ctx.Err() != nil {
		err = errUncertain
	}
	outcomes = make([]Outcome, len(drafts))
	for i := range outcomes {
		outcomes[i].Err = err
	}
	return outcomes
}

var errUncertain = refusal.New(refusal.Unavailable, "The commit was not confirmed in time; its outcome is unknown.")

func (w *worker) change(it item) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(it.ctx), commitTimeout)
	entries, err := w.c.store.WithLog(ctx, it.sessionID, it.change)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = errUncertain
	}
	cancel()
	it.answer(Outcome{Err: err})
	if err == nil && len(entries) > 0 {
		w.published <- published{entries: entries}
	}
}

// handOn gives what is new to the publisher's goroutine.
func (w *worker) handOn(drafts []message.Draft, outcomes []Outcome) {
	var p published
	for n, o := range outcomes {
		w.c.metrics.send(o)
		if !o.New {
			continue
		}
		d := drafts[n]
		if p.entries == nil {
			p.entries = make([]message.Entry, 0, len(outcomes)-n)
		}
		p.entries = append(p.entries, message.Entry{SessionID: d.SessionID, Seq: o.Receipt.Seq, MessageID: d.MessageID,
			SenderID: d.SenderID, SenderDevice: d.SenderDevice, Type: d.Type, Body: d.Body, CreatedAt: o.Receipt.CreatedAt})
		if o.Receipt.Seq == 1 && d.Peer != "" {
			p.direct = append(p.direct, directStarted{d.SessionID, [2]string{d.SenderID, d.Peer}})
		}
	}
	if len(p.entries) > 0 {
		w.c.sent.Add(int64(len(p.entries)))
		w.published <- p
	}
}

func (w *worker) publish() {
	for p := range w.published {
		w.c.pub.Publish(p.entries)
		for _, d := range p.direct {
			w.c.pub.DirectStarted(d.sessionID, d.users)
		}
	}
}
