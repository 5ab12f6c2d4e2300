package cursor_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type store struct {
	mu    sync.Mutex
	saved map[string]int64
	down  error
	calls int
}

func (s *store) SaveCursors(_ context.Context, _ string, users, devices []string, sessions []uuid.UUID, seqs []int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.down != nil {
		return s.down
	}
	for i := range seqs {
		k := users[i] + "/" + devices[i] + "/" + sessions[i].String()
		s.saved[k] = max(s.saved[k], seqs[i])
	}
	return nil
}

func (s *store) set(down error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *store) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

type limits map[uuid.UUID]cursor.Seen

// life is an epoch that does not change.
type life string

func (l life) Settled() string { return string(l) }

func (l limits) Seen(_ context.Context, _ string, ids []uuid.UUID) (map[uuid.UUID]cursor.Seen, error) {
	out := map[uuid.UUID]cursor.Seen{}
	for _, id := range ids {
		if s, ok := l[id]; ok {
			out[id] = s
		}
	}
	return out, nil
}

func TestAcks(t *testing.T) {
	open, left, foreign := uuid.New(), uuid.New(), uuid.New()
	see := limits{
		open: {Visible: session.Visibility{{From: 1, To: session.Open}}, Head: 10},
		left: {Visible: session.Visibility{{From: 1, To: 5}}, Head: 10},
	}
	st := &store{saved: map[string]int64{}}
	clock := clockwork.NewFakeClock()
	a := cursor.New(st, see, life("1"), clock, slog.New(slog.DiscardHandler))
	ack := func(acks ...cursor.Ack) refusal.Reason {
		r, _ := refusal.Of(a.Ack(t.Context(), "u", "d", acks))
		return r
	}
	require.Empty(t, ack(cursor.Ack{open, 7}, cursor.Ack{left, 5}))
	require.Empty(t, ack(cursor.Ack{open, 3}), "a stale one changes nothing")
	require.Equal(t, refusal.CursorBeyondHead, ack(cursor.Ack{open, 8}, cursor.Ack{open, 11}), "all or none")
	require.Equal(t, refusal.CursorBeyondHead, ack(cursor.Ack{left, 6}), "past the end of the membership")
	require.Equal(t, refusal.SessionUnavailable, ack(cursor.Ack{foreign, 1}))
	require.Equal(t, map[uuid.UUID]int64{open: 7, left: 5}, a.Waiting("u", "d"))
	require.Nil(t, a.Waiting("u", "other"))
	require.Empty(t, st.saved)

	// What cannot be written waits, keeps the highest, and is written later.
	st.set(errors.New("away"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
	clock.Advance(cursor.FlushInterval)
	require.Eventually(t, func() bool { return st.tries() == 1 }, time.Minute, time.Millisecond)
	require.Empty(t, ack(cursor.Ack{open, 9}))
	require.Eventually(t, func() bool { return len(a.Waiting("u", "d")) == 2 }, time.Minute, time.Millisecond)
	require.EqualValues(t, 9, a.Waiting("u", "d")[open])
	st.set(nil)

	// While it is being written it is not lost from sight.
	st.mu.Lock()
	clock.Advance(cursor.FlushInterval)
	require.Never(t, func() bool { return a.Waiting("u", "d")[open] != 9 }, 20*time.Millisecond, time.Millisecond)
	st.mu.Unlock()
	require.Eventually(t, func() bool { return a.Waiting("u", "d") == nil }, time.Minute, time.Millisecond)
	require.Equal(t, 2, st.tries())

	require.Empty(t, ack(cursor.Ack{open, 10}))
	a.Forget("u", "d")
	require.Nil(t, a.Waiting("u", "d"))
	require.NoError(t, a.Ack(t.Context(), "u", "e", []cursor.Ack{{open, 10}}))
	cancel()
	<-done // it writes what is left
	require.Equal(t, map[string]int64{"u/d/" + open.String(): 9, "u/d/" + left.String(): 5, "u/e/" + open.String(): 10}, st.saved)
}

// over is a store whose database is promoted while it writes.
type over struct{ promoted func() }

func (s *over) SaveCursors(context.Context, string, []string, []string, []uuid.UUID, []int64) error {
	s.promoted()
	return errors.New("away")
}

// Acks of a log's life that is over are written in no other: neither those that wait nor those whose writing failed.
func TestAcksEndWithTheirLife(t *testing.T) {
	id := uuid.New()
	see := limits{id: {Visible: session.Visibility{{From: 1, To: session.Open}}, Head: 10}}
	promotions := make(chan struct{}, 10)
	clock := clockwork.NewFakeClock()
	st := &over{}
	a := cursor.New(st, see, life("1"), clock, slog.New(slog.DiscardHandler))
	st.promoted = func() { a.ForgetAll(); promotions <- struct{}{} }
	require.NoError(t, a.Ack(t.Context(), "u", "d", []cursor.Ack{{id, 7}}))
	a.ForgetAll()
	require.Nil(t, a.Waiting("u", "d"))

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
	require.NoError(t, a.Ack(t.Context(), "u", "d", []cursor.Ack{{id, 8}}))
	clock.Advance(cursor.FlushInterval)
	<-promotions
	require.Eventually(t, func() bool { return a.Waiting("u", "d") == nil }, time.Minute, time.Millisecond)
	clock.Advance(cursor.FlushInterval)
	cancel()
	<-done
	require.Empty(t, promotions, "what failed is not tried again")
}

// promoted is a store, and an epoch, that changes while positions are looked at or written.
type promoted struct {
	epoch  string
	saved  []string // "epoch seq"
	during func()   // called in Seen and in SaveCursors
	seen   map[uuid.UUID]cursor.Seen
}

func (p *promoted) Settled() string { return p.epoch }

func (p *promoted) Seen(context.Context, string, []uuid.UUID) (map[uuid.UUID]cursor.Seen, error) {
	p.during()
	return p.seen, nil
}

func (p *promoted) SaveCursors(_ context.Context, epoch string, _, _ []string, _ []uuid.UUID, seqs []int64) error {
	p.during()
	if epoch == p.epoch { // as the statement does
		p.saved = append(p.saved, fmt.Sprint(epoch, " ", seqs[0]))
	}
	return nil
}

// Whatever the moment of a promotion, a position of the former life is not written in the new one; one of the new life is.
func TestAcksAreWrittenInTheirOwnLifeOnly(t *testing.T) {
	id := uuid.New()
	p := &promoted{epoch: "1", during: func() {}, seen: map[uuid.UUID]cursor.Seen{id: {Visible: session.Visibility{{From: 1, To: session.Open}}, Head: 10}}}
	a := cursor.New(p, p, p, clockwork.NewFakeClock(), slog.New(slog.DiscardHandler))
	change := func() { a.ForgetAll(); p.epoch += "1"; p.during = func() {} }
	flush := func() { // what Run does when it ends
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a.Run(ctx)
	}
	require.NoError(t, a.Ack(t.Context(), "u", "d", []cursor.Ack{{id, 7}}))
	p.during = change // while it is written
	flush()
	require.Empty(t, p.saved)
	require.Nil(t, a.Waiting("u", "d"))

	p.during = change // while the limits are read
	reason, _ := refusal.Of(a.Ack(t.Context(), "u", "d", []cursor.Ack{{id, 8}}))
	require.Equal(t, refusal.Unavailable, reason)
	require.Nil(t, a.Waiting("u", "d"))

	require.NoError(t, a.Ack(t.Context(), "u", "d", []cursor.Ack{{id, 3}}))
	flush()
	require.Equal(t, []string{"111 3"}, p.saved)
}
