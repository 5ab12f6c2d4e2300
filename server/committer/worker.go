package committer

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
)

// published is what one transaction made, and in which epoch.
type published struct {
	epoch   string
	entries []message.Entry
	direct  []directStarted
}

type directStarted struct {
	sessionID uuid.UUID
	users     [2]string
}

// put queues items and starts a worker where that is worth it. Items that find no room are refused; after close all are.
func (c *Committer) put(items []item) {
	q := &c.queue
	q.mu.Lock()
	taken, refusal := 0, closing
	if !q.closed {
		taken, refusal = q.add(items), overloaded
	}
	for q.wanted() {
		c.start()
	}
	q.mu.Unlock()
	for _, it := range items[taken:] {
		it.answer(Outcome{Err: refusal})
	}
}

// start starts a worker with what waits. The caller holds queue.mu, and something is free.
func (c *Committer) start() {
	w := c.queue.take()
	c.workers.Go(func() { c.work(w) })
}

// work commits what was taken and what gathers meanwhile, until that is not worth it.
func (c *Committer) work(w work) {
	for {
		late := c.clock.AfterFunc(Patience, c.hurry)
		if w.change != nil {
			c.change(*w.change)
		} else {
			c.commit(w.batch)
		}
		late.Stop()
		c.queue.mu.Lock()
		c.queue.finish(w)
		if !c.queue.wanted() {
			c.queue.mu.Unlock()
			return
		}
		w = c.queue.take()
		for c.queue.wanted() {
			c.start()
		}
		c.queue.mu.Unlock()
	}
}

// hurry starts a worker beside one that takes long, even for little.
func (c *Committer) hurry() {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	if c.queue.room() && len(c.queue.free) > 0 {
		c.start()
	}
}

type dedupKey struct {
	session, message uuid.UUID
	sender           string
}

// commit commits one batch. Repeats of an id within it are folded: they get the answer of the first. Where an id comes
// with another body the batch is cut: whether the id is used by then is known only once the first was judged, and order is
// kept.
func (c *Committer) commit(batch []item) {
	if len(batch) == 0 {
		return // their callers have left
	}
	firsts := make([]item, 0, len(batch))
	drafts := make([]message.Draft, 0, len(batch))
	var repeats []item
	place := make(map[dedupKey]int, len(batch))
	for n, it := range batch {
		k := dedupKey{it.draft.SessionID, it.draft.MessageID, it.draft.SenderID}
		if at, again := place[k]; again {
			if drafts[at].Digest != it.draft.Digest {
				c.commit(batch[:n])
				c.commit(batch[n:])
				return
			}
			repeats = append(repeats, it)
			continue
		}
		place[k] = len(firsts)
		firsts = append(firsts, it)
		drafts = append(drafts, *it.draft)
	}
	outcomes := c.append(drafts)
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
	c.handOn(drafts, outcomes)
}

// ErrIDReused is the answer to a message id that came with another body before.
var ErrIDReused = refusal.New(refusal.MessageIDReused, "This message_id was used with another body.")

// append commits drafts. When PostgreSQL refuses the batch as a whole for what one of them holds, each is tried alone, so
// that one bad item never fails the others.
func (c *Committer) append(drafts []message.Draft) []Outcome {
	started := c.clock.Now()
	//nolint:forbidigo // the batch belongs to many callers, each of whom may leave
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	outcomes, err := c.store.Append(ctx, drafts, started)
	c.metrics.batch(len(drafts), c.clock.Since(started))
	if err == nil {
		return outcomes
	}
	reason, refused := refusal.Of(err)
	if len(drafts) > 1 && !(refused && reason == refusal.Unavailable) && ctx.Err() == nil {
		c.log.Error("batch refused, trying its items one by one", "items", len(drafts), "error", err)
		for i := range drafts {
			outcomes = append(outcomes, c.append(drafts[i : i+1])[0])
		}
		return outcomes
	}
	c.log.Error("commit failed", "items", len(drafts), "error", err)
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

func (c *Committer) change(it item) {
	if it.ctx.Err() != nil {
		return // the caller leaves with that error, and nothing was done
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(it.ctx), commitTimeout)
	entries, epoch, err := c.store.WithLog(ctx, it.session, it.change)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		err = errUncertain
	}
	cancel()
	it.answer(Outcome{Err: err})
	if err == nil && len(entries) > 0 {
		c.published <- published{epoch: epoch, entries: entries}
	}
}

// handOn gives what is new to the publisher's goroutine.
func (c *Committer) handOn(drafts []message.Draft, outcomes []Outcome) {
	var p published
	for n, o := range outcomes {
		c.metrics.send(o)
		if !o.New {
			continue
		}
		d := drafts[n]
		if p.entries == nil {
			p.epoch = o.Receipt.Epoch // one transaction, so one for all
			p.entries = make([]message.Entry, 0, len(outcomes)-n)
		}
		p.entries = append(p.entries, message.Entry{SessionID: d.SessionID, Seq: o.Receipt.Seq, MessageID: d.MessageID,
			SenderID: d.SenderID, SenderDevice: d.SenderDevice, Type: d.Type, Body: d.Body, CreatedAt: o.Receipt.CreatedAt})
		if o.Receipt.Seq == 1 && d.Peer != "" {
			p.direct = append(p.direct, directStarted{d.SessionID, [2]string{d.SenderID, d.Peer}})
		}
	}
	if len(p.entries) > 0 {
		c.sent.Add(int64(len(p.entries)))
		c.published <- p
	}
}

func (c *Committer) publish() {
	for p := range c.published {
		c.pub.Publish(p.epoch, p.entries)
		for _, d := range p.direct {
			c.pub.DirectStarted(p.epoch, d.sessionID, d.users)
		}
	}
}
