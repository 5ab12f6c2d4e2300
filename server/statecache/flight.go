package statecache

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/state"
)

const (
	// maxReads is how many flights ask PostgreSQL at the same time.
	maxReads = 16
	// maxFlight is how many ranges a flight takes; who does not fit waits for the next.
	maxFlight = 1000
	// flightTimeout bounds one flight.
	flightTimeout = 5 * time.Second
)

// flights are readings from PostgreSQL that several callers share.
type flights struct {
	store state.Store
	room  chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex
	users map[string]*line
}

// line is a user's flights that have not left, the first being next to leave. It is there while one is under way too.
type line struct{ waiting []*flight }

// flight is written by its goroutine before done is closed, and read after.
type flight struct {
	ranges []message.Range
	done   chan struct{}
	kept   map[uuid.UUID]state.Kept
	err    error
}

func newFlights(store state.Store) *flights {
	return &flights{store: store, room: make(chan struct{}, maxReads), users: make(map[string]*line)}
}

// read reads what a user's states are, beginning after it was called.
func (fs *flights) read(ctx context.Context, userID string, ranges []message.Range) (map[uuid.UUID]state.Kept, error) {
	f := fs.board(userID, ranges)
	select {
	case <-f.done:
		return f.kept, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (fs *flights) board(userID string, ranges []message.Range) *flight {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	l := fs.users[userID]
	if l == nil {
		l = &line{}
		fs.users[userID] = l
		fs.wg.Go(func() { fs.fly(userID, l) })
	}
	if n := len(l.waiting); n == 0 || len(l.waiting[n-1].ranges)+len(ranges) > maxFlight {
		l.waiting = append(l.waiting, &flight{done: make(chan struct{})})
	}
	f := l.waiting[len(l.waiting)-1]
	f.ranges = append(f.ranges, ranges...)
	return f
}

// fly flies a user's flights one after the other until none waits.
func (fs *flights) fly(userID string, l *line) {
	for {
		fs.room <- struct{}{}
		fs.mu.Lock()
		if len(l.waiting) == 0 {
			delete(fs.users, userID)
			fs.mu.Unlock()
			<-fs.room
			return
		}
		f := l.waiting[0]
		l.waiting = l.waiting[1:]
		fs.mu.Unlock()
		f.kept, f.err = fs.ask(userID, merged(f.ranges))
		close(f.done)
		<-fs.room
	}
}

func (fs *flights) ask(userID string, ranges []message.Range) (map[uuid.UUID]state.Kept, error) {
	//nolint:forbidigo // a flight belongs to all who wait for it, each of whom may leave
	ctx, cancel := context.WithTimeout(context.Background(), flightTimeout)
	defer cancel()
	rows, err := fs.store.Kept(ctx, userID, ranges)
	kept := make(map[uuid.UUID]state.Kept, len(rows))
	for _, k := range rows {
		kept[k.SessionID] = k
	}
	return kept, err
}

// merged returns the same ranges without overlaps.
func merged(ranges []message.Range) []message.Range {
	slices.SortFunc(ranges, func(a, b message.Range) int {
		if c := bytes.Compare(a.SessionID[:], b.SessionID[:]); c != 0 {
			return c
		}
		return int(min(max(a.From-b.From, -1), 1))
	})
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && out[n-1].SessionID == r.SessionID && r.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}
