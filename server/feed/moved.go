package feed

import (
	"context"

	"github.com/google/uuid"
)

// Key is one user's part in one session.
type Key struct {
	UserID    string
	SessionID uuid.UUID
}

// Mover is what a Sink may be besides: it is told of everything that a poll found changed about users in sessions (marks,
// sends, memberships), whoever changed it and whether this node has handled it or not; each once per poll, and before
// anything else of the poll is told.
type Mover interface {
	Moved(ctx context.Context, keys []Key)
}

func (f *Feed) tellMoved(ctx context.Context, b Batch) {
	m, ok := f.sink.(Mover)
	if !ok {
		return
	}
	seen := make(map[Key]struct{})
	var keys []Key
	add := func(user string, id uuid.UUID) {
		k := Key{user, id}
		if _, again := seen[k]; !again {
			seen[k] = struct{}{}
			keys = append(keys, k)
		}
	}
	for _, c := range b.Commits {
		for i, user := range c.StateUsers {
			add(user, c.StateSessions[i])
		}
		for i, user := range c.SentUsers {
			add(user, c.SentSessions[i])
		}
	}
	for _, r := range b.Relations {
		if r.Kind != UserToSession {
			continue
		}
		if id, err := uuid.Parse(r.OtherID); err == nil {
			add(r.UserID, id)
		}
	}
	if len(keys) > 0 {
		m.Moved(ctx, keys)
	}
}
