// Package reading tells members of small sessions, live, how far the others have read.
//
// Nothing of it is stored and nothing depends on it: a position that was not told is learnt from ListMembers. Positions
// are gathered for Every, so that a member who reads on and on is told of at most once in that time per session, and one
// query finds all who may be told. Groups above MaxMembers are left out: each of n members would be told of n others for
// each message; there, ListReaders answers whoever asks.
//
// One goroutine (Run) asks and tells. Note only notes, under Teller.mu, under which nothing is called.
package reading

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

const (
	// MaxMembers is how many members a group may have whose members are told.
	MaxMembers = 32
	// Every is how long positions are gathered.
	Every = 250 * time.Millisecond
	// MaxWaiting bounds the positions that wait; what is more is not told.
	MaxWaiting = 8192
	// atOnce is how many positions one query names.
	atOnce = 256
	// patience bounds one query.
	patience = 2 * time.Second
)

// Position is how far a user has read in a session.
type Position struct {
	UserID    string
	SessionID uuid.UUID
	ReadSeq   int64
}

// Audience tells who may know a position. Implemented by storage.
type Audience interface {
	// ReadAudience returns for each position, by its place, the active members of the session but the reader, where the
	// reader is one and they are at most maxMembers; without those of whom or by whom the reader is blocked.
	ReadAudience(ctx context.Context, positions []Position, maxMembers int) ([][]string, error)
}

// Notifier tells the devices of a user, on any node. It never blocks.
type Notifier interface {
	NotifyUser(userID, exceptDevice string, ev *parleyv1.Event)
}

type key struct {
	userID    string
	sessionID uuid.UUID
}

// Teller is a node's part. Safe for concurrent use; Run must run.
type Teller struct {
	audience Audience
	notify   Notifier
	clock    clockwork.Clock
	log      *slog.Logger

	mu      sync.Mutex
	waiting map[key]int64
}

// NewTeller returns a teller that has nothing to tell.
func NewTeller(a Audience, n Notifier, clock clockwork.Clock, log *slog.Logger) *Teller {
	return &Teller{audience: a, notify: n, clock: clock, log: log, waiting: make(map[key]int64)}
}

// Note notes that a user's read position has moved, after that was committed. It never blocks.
func (t *Teller) Note(p Position) {
	k := key{p.UserID, p.SessionID}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.waiting[k]; known || len(t.waiting) < MaxWaiting {
		t.waiting[k] = max(t.waiting[k], p.ReadSeq)
	}
}

// Run tells what was noted until ctx ends.
func (t *Teller) Run(ctx context.Context) {
	tick := t.clock.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.Chan():
			t.Round(ctx)
		}
	}
}

// Round does once what Run does all the time.
func (t *Teller) Round(ctx context.Context) {
	due := t.take()
	for len(due) > 0 && ctx.Err() == nil {
		n := min(len(due), atOnce)
		t.tell(ctx, due[:n])
		due = due[n:]
	}
}

func (t *Teller) take() []Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return nil
	}
	due := make([]Position, 0, len(t.waiting))
	for k, seq := range t.waiting {
		due = append(due, Position{k.userID, k.sessionID, seq})
	}
	clear(t.waiting)
	return due
}

func (t *Teller) tell(ctx context.Context, due []Position) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	told, err := t.audience.ReadAudience(ctx, due, MaxMembers)
	if err != nil {
		t.log.DebugContext(ctx, "read positions not told", "positions", len(due), "error", err)
		return
	}
	for i, users := range told {
		ev := event(due[i])
		for _, user := range users {
			t.notify.NotifyUser(user, "", ev)
		}
	}
}

func event(p Position) *parleyv1.Event {
	return &parleyv1.Event{Kind: &parleyv1.Event_ReadPosition{ReadPosition: &parleyv1.ReadPositionEvent{
		SessionId: p.SessionID.String(), UserId: p.UserID, ReadSeq: p.ReadSeq}}}
}
