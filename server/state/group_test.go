package state_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/state"
)

// gated is the store of a group commit that a test holds back, with counts of what it was asked for.
type gated struct {
	state.Store
	gate                  chan struct{}
	changes, saves, wants atomic.Int64
}

func (g *gated) Change(ctx context.Context, keys []state.Key, wait bool, fn func(context.Context, state.Ledger) error) error {
	<-g.gate
	g.changes.Add(1)
	return g.Store.Change(ctx, keys, wait, func(ctx context.Context, l state.Ledger) error {
		return fn(ctx, countingLedger{l, g})
	})
}

type countingLedger struct {
	state.Ledger
	g *gated
}

func (l countingLedger) Except(ctx context.Context, wants []state.Want) ([]state.Found, error) {
	l.g.wants.Add(1)
	return l.Ledger.Except(ctx, wants)
}

func (l countingLedger) Save(ctx context.Context, moves []state.Move, asked []state.Key) (map[state.Key]int64, int64, error) {
	l.g.saves.Add(1)
	return l.Ledger.Save(ctx, moves, asked)
}

func newGated(t *testing.T) (*world, *gated) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	g := &gated{Store: w.store, gate: make(chan struct{})}
	w.states = state.NewService(g, w.notified)
	return w, g
}

// together makes calls that wait behind a first one, and then lets all of them go.
func (g *gated) together(calls ...func()) {
	var all sync.WaitGroup
	for _, call := range calls {
		all.Go(call)
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for {
		select {
		case g.gate <- struct{}{}:
		case <-done:
			return
		}
	}
}

// Marks that wait together commit together: the round trips do not grow with them, each has an outcome of its own, and
// there is one row of the commit log for all.
func TestMarksCommitTogether(t *testing.T) {
	w, g := newGated(t)
	users := names(100)
	id := w.group(t, append(users, "ann")...)
	w.texts(t, id, "ann", 20)
	notes := w.number(t, `SELECT count(*) FROM commit_log`)
	var calls []func()
	for i, user := range users {
		calls = append(calls, func() {
			v, err := w.states.MarkReadTo(w.ctx, on(user), id, 15)
			if err != nil || v.ReadSeq != 15 || v.Unread != 6 {
				t.Error(v, err)
			}
		}, func() {
			if _, err := w.states.MarkReadTo(w.ctx, on(user), id, 1_000); reasonOf(err) != refusal.CursorBeyondHead {
				t.Error(err)
			}
		})
		if i%10 == 0 {
			calls = append(calls, func() {
				if _, err := w.states.MarkReadTo(w.ctx, on(user), uuid.New(), 1); reasonOf(err) != refusal.SessionUnavailable {
					t.Error(err)
				}
			})
		}
	}
	g.together(calls...)
	require.LessOrEqual(t, g.changes.Load(), int64(30), "of %d marks", len(calls))
	require.Zero(t, g.wants.Load())
	require.LessOrEqual(t, w.number(t, `SELECT count(*) FROM commit_log`)-notes, g.saves.Load(), "one row for each transaction")
	require.Len(t, w.notified.take(), len(users))
	for _, user := range users {
		require.EqualValues(t, 15, w.view(t, user, id).ReadSeq)
	}
}

// Changes of one key, of cursors and of single messages, see what those before them left, in whatever batches they come.
func TestMarksOfOneKeyFollowEachOther(t *testing.T) {
	w, g := newGated(t)
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 20)
	g.together(func() {
		_, err := w.states.MarkReadTo(w.ctx, on("bob"), id, 3)
		require.NoError(t, err)
		v, err := w.states.MarkRead(w.ctx, on("bob"), id, []int64{4, 5, 9})
		require.NoError(t, err)
		require.EqualValues(t, 5, v.ReadSeq)
		require.NoError(t, w.states.MarkUnread(w.ctx, on("bob"), id))
		v, err = w.states.Delete(w.ctx, on("bob"), id, []int64{2, 7})
		require.NoError(t, err)
		require.True(t, v.MarkedUnread)
		require.EqualValues(t, 14, v.Unread, "6 to 21 without 7 and 9")
	})

	var calls []func()
	for seq := int64(10); seq <= 21; seq++ {
		calls = append(calls, func() {
			v, err := w.states.MarkRead(w.ctx, on("bob"), id, []int64{seq})
			if err != nil || v.MarkedUnread {
				t.Error(v, err)
			}
		}, func() {
			if v, err := w.states.MarkReadTo(w.ctx, on("bob"), id, seq-4); err != nil || v.ReadSeq < seq-4 {
				t.Error(v, err)
			}
		})
	}
	g.together(calls...)
	v := w.view(t, "bob", id)
	require.EqualValues(t, 21, v.ReadSeq)
	require.Zero(t, v.Unread)
}

// A row that somebody has locked holds up its own user and nobody else, and no lock is waited for with others in hand.
func TestALockedRowHoldsUpNobodyElse(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	users := names(40)
	id := w.group(t, append(users, "ann")...)
	w.texts(t, id, "ann", 5)
	tx, err := w.pool.Begin(w.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(w.ctx, `SELECT FROM user_to_session WHERE user_id = $1 AND session_id = $2 FOR UPDATE`, users[7], id)
	require.NoError(t, err)

	locked := make(chan error, 1)
	go func() {
		_, err := w.states.MarkReadTo(w.ctx, on(users[7]), id, 4)
		locked <- err
	}()
	var others sync.WaitGroup
	for i, user := range users {
		if i == 7 {
			continue
		}
		others.Go(func() {
			if _, err := w.states.MarkReadTo(w.ctx, on(user), id, 4); err != nil {
				t.Error(err)
			}
		})
	}
	others.Wait()
	require.Empty(t, locked)
	require.NoError(t, tx.Rollback(w.ctx))
	require.NoError(t, <-locked)
	require.EqualValues(t, 4, w.view(t, users[7], id).ReadSeq)
}

// More marks than may wait are refused, and are good when repeated; after Close all are.
func TestMarksAreBounded(t *testing.T) {
	w, g := newGated(t)
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 5)
	var refused, done atomic.Int64
	var started sync.WaitGroup
	calls := make([]func(), state.MaxWaiting+10)
	started.Add(len(calls))
	for i := range calls {
		calls[i] = func() {
			started.Done()
			switch _, err := w.states.MarkReadTo(w.ctx, on("bob"), id, 4); {
			case err == nil:
				done.Add(1)
			case reasonOf(err) == refusal.Overloaded:
				refused.Add(1)
			default:
				t.Error(err)
			}
		}
	}
	var all sync.WaitGroup
	for _, call := range calls {
		all.Go(call)
	}
	started.Wait()
	require.Eventually(t, func() bool { return refused.Load() == 10 }, time.Minute, time.Millisecond)
	close(g.gate)
	all.Wait()
	require.EqualValues(t, state.MaxWaiting, done.Load())
	w.states.Close()
	require.Equal(t, refusal.ShuttingDown, reasonOf(w.states.MarkUnread(w.ctx, on("bob"), id)))
}
