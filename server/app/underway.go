package app

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// underway knows the sessions in which this node is committing, or has committed what it has not published yet. What the
// feed finds of these is about to come by itself: told at once it would make every stream of the session believe that it
// missed something, and a session in which much is sent would never get out of that. It is told when nothing is under way
// any more. Safe for concurrent use.
type underway struct {
	tell func(life string, sessionID uuid.UUID, head int64) // called without the lock

	mu    sync.Mutex
	count map[uuid.UUID]int      // drafts, changes and entries
	heads map[uuid.UUID]lifeHead // to be told
}

// lifeHead is a session's head in a life of the log.
type lifeHead struct {
	life string
	seq  int64
}

func newUnderway() *underway {
	return &underway{count: make(map[uuid.UUID]int), heads: make(map[uuid.UUID]lifeHead)}
}

// add counts n more of a session, or less.
func (u *underway) add(id uuid.UUID, n int) {
	if n == 0 {
		return
	}
	u.mu.Lock()
	u.count[id] += n
	left, head := u.count[id], lifeHead{}
	if left == 0 {
		head = u.heads[id]
		delete(u.count, id)
		delete(u.heads, id)
	}
	u.mu.Unlock()
	if head.seq > 0 {
		u.tell(head.life, id, head.seq)
	}
}

// advanced tells of a head, now or when nothing of the session is under way. Of several those of the newest life count: the
// one of the last that came.
func (u *underway) advanced(life string, id uuid.UUID, head int64) {
	u.mu.Lock()
	later := u.count[id] > 0
	if last := u.heads[id]; later && (last.life != life || last.seq < head) {
		u.heads[id] = lifeHead{life, head}
	}
	u.mu.Unlock()
	if !later {
		u.tell(life, id, head)
	}
}

// forget lets go of the heads that wait to be told: they are of the log's former life.
func (u *underway) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.heads)
}

// published counts entries that all streams here were told of.
func (u *underway) published(entries []message.Entry) {
	for n := 0; n < len(entries); {
		first := n
		for n < len(entries) && entries[n].SessionID == entries[first].SessionID {
			n++
		}
		u.add(entries[first].SessionID, first-n)
	}
}

// countedLog is a committer.Store whose commits are under way until they were published.
type countedLog struct {
	committer.Store
	underway *underway
}

// Append implements committer.Store.
func (l countedLog) Append(ctx context.Context, drafts []message.Draft, now time.Time) ([]committer.Outcome, error) {
	for _, d := range drafts {
		l.underway.add(d.SessionID, 1)
	}
	out, err := l.Store.Append(ctx, drafts, now)
	for i, d := range drafts {
		if err != nil || !out[i].New {
			l.underway.add(d.SessionID, -1)
		}
	}
	return out, err
}

// WithLog implements committer.Store.
func (l countedLog) WithLog(ctx context.Context, id uuid.UUID, fn session.Change) ([]message.Entry, string, error) {
	l.underway.add(id, 1)
	entries, epoch, err := l.Store.WithLog(ctx, id, fn)
	if err != nil {
		l.underway.add(id, -1)
		return entries, epoch, err
	}
	l.underway.add(id, len(entries)-1)
	return entries, epoch, nil
}
