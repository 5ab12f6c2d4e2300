package committer

import (
	"context"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// item is a draft or a change that waits. out may be written until done is released.
type item struct {
	ctx     context.Context
	session uuid.UUID
	draft   *message.Draft
	change  session.Change
	out     *Outcome
	done    *latch
}

func (i item) answer(o Outcome) {
	*i.out = o
	i.done.release()
}

// queue is what waits and what is being committed. Something is free only while a worker is at it or has just been asked
// for.
type queue struct {
	most int // transactions at a time

	mu      sync.Mutex
	free    []item // what may be committed, in the order in which it came
	changes int    // how many of these are changes
	// busy are the sessions in the hands of a worker, with what has come for them since.
	busy    map[uuid.UUID][]item
	held    int // items in busy
	batches int // workers that commit a batch
	running int // workers
	closed  bool
}

// work is what a worker does next: a batch of drafts in one transaction, or a change.
type work struct {
	batch  []item
	change *item
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.free) + q.held
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// add queues items while there is room and returns how many.
func (q *queue) add(items []item) int {
	items = items[:min(len(items), max(0, q.most*MaxWaiting-len(q.free)-q.held))]
	for _, it := range items {
		q.sort(it)
	}
	return len(items)
}

// sort puts an item where it belongs: behind its session's others.
func (q *queue) sort(it item) {
	if behind, busy := q.busy[it.session]; busy {
		q.busy[it.session] = append(behind, it)
		q.held++
		return
	}
	q.free = append(q.free, it)
	if it.change != nil {
		q.changes++
	}
}

func (q *queue) room() bool { return q.running < q.most }

// wanted says whether another worker is worth it: for a change always, since it is a transaction of its own; for drafts
// when none are being committed or many wait.
func (q *queue) wanted() bool {
	drafts := len(q.free) - q.changes
	return q.room() && (q.changes > 0 || drafts > 0 && q.batches == 0 || drafts >= Worthwhile)
}

// take takes work for a worker that begins: the change that came first, where nothing came before it or a batch is being
// committed already, else as many drafts as one transaction takes. Something must be free. What then belongs to a session
// that was taken is held back.
func (q *queue) take() (w work) {
	waiting := q.free
	single := q.changes > 0 && (q.batches > 0 || waiting[0].change != nil)
	q.free, q.changes = nil, 0
	q.running++
	var left []item
	if single {
		w.change, left = firstChange(waiting)
		q.busy[w.change.session] = nil
	} else {
		w.batch, left = drafts(waiting)
		q.batches++
		for _, it := range w.batch {
			q.busy[it.session] = nil
		}
	}
	for _, it := range left {
		q.sort(it)
	}
	return w
}

func firstChange(waiting []item) (first *item, left []item) {
	at := slices.IndexFunc(waiting, func(it item) bool { return it.change != nil })
	it := waiting[at]
	return &it, slices.Delete(waiting, at, at+1)
}

// drafts are those that one transaction takes, in order, without those whose callers have left.
func drafts(waiting []item) (batch, left []item) {
	batch = make([]item, 0, min(len(waiting), MaxBatch))
	bytes := 0
	for n, it := range waiting {
		switch {
		case it.change != nil:
			left = append(left, it)
		case it.ctx.Err() != nil: // the caller leaves with that error, and nothing was done
		case len(batch) == MaxBatch || len(batch) > 0 && bytes+len(it.draft.Body) > MaxBatchBytes:
			return batch, append(left, waiting[n:]...)
		default:
			batch = append(batch, it)
			bytes += len(it.draft.Body)
		}
	}
	return batch, left
}

// finish takes a worker's sessions out of its hands: what came for them is free.
func (q *queue) finish(w work) {
	q.running--
	if w.change != nil {
		q.release(w.change.session)
		return
	}
	q.batches--
	for _, it := range w.batch {
		q.release(it.session)
	}
}

func (q *queue) release(id uuid.UUID) {
	behind := q.busy[id]
	delete(q.busy, id)
	q.held -= len(behind)
	for _, it := range behind {
		q.sort(it)
	}
}
