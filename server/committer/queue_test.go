package committer_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// held is a committer of two workers whose first is stopped in a batch of one.
type held struct {
	*committer.Committer
	store *memory
	pub   *published
	clock *clockwork.FakeClock
	first uuid.UUID // the session of that batch
	wg    sync.WaitGroup
	open  func()
}

func hold(t *testing.T) *held {
	t.Helper()
	h := &held{store: newMemory(), pub: &published{seqs: map[uuid.UUID][]int64{}}, clock: clockwork.NewFakeClock(), first: uuid.New()}
	h.Committer = committer.New(2, h.store, h.pub, h.clock, slog.New(slog.DiscardHandler), nil)
	h.store.gate.Lock()
	h.open = sync.OnceFunc(h.store.gate.Unlock)
	t.Cleanup(func() {
		h.open()
		h.wg.Wait()
		h.Close()
	})
	h.send(t, text(h.first, "first"))
	h.atWork(t, 1)
	return h
}

func (h *held) send(t *testing.T, drafts ...message.Draft) {
	h.wg.Go(func() {
		out, err := h.Send(context.WithoutCancel(t.Context()), drafts)
		if err != nil || out[0].Err != nil {
			t.Errorf("send: %v %v", err, out)
		}
	})
}

// atWork waits until n batches have begun.
func (h *held) atWork(t *testing.T, n int64) {
	t.Helper()
	require.Eventually(t, func() bool { return h.store.entered.Load() == n }, time.Minute, time.Millisecond)
}

func (h *held) waiting(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return h.Waiting() == n }, time.Minute, time.Millisecond)
}

func texts(n int, session func() uuid.UUID) []message.Draft {
	drafts := make([]message.Draft, n)
	for i := range drafts {
		drafts[i] = text(session(), "x")
	}
	return drafts
}

func TestFewDraftsWaitForTheBatchThatIsAtWork(t *testing.T) {
	h := hold(t)
	h.send(t, texts(committer.Worthwhile-1, uuid.New)...)
	h.waiting(t, committer.Worthwhile-1)
	require.EqualValues(t, 1, h.store.entered.Load())
	h.open()
	h.wg.Wait()
	require.Equal(t, []int{1, committer.Worthwhile - 1}, h.store.batches)
}

func TestManyDraftsAreCommittedBesideTheBatchThatIsAtWork(t *testing.T) {
	h := hold(t)
	h.send(t, texts(committer.Worthwhile, uuid.New)...)
	h.atWork(t, 2)
	require.Zero(t, h.Waiting())
}

// A transaction that hangs, such as behind another's lock, holds up no other session for long.
func TestFewDraftsDoNotWaitForABatchThatTakesLong(t *testing.T) {
	h := hold(t)
	h.send(t, text(uuid.New(), "x"))
	h.waiting(t, 1)
	h.clock.Advance(committer.Patience)
	h.atWork(t, 2)
	require.Zero(t, h.Waiting())
}

func TestChangesRunBesideABatch(t *testing.T) {
	h := hold(t)
	require.NoError(t, h.Change(t.Context(), uuid.New(), func(context.Context, session.Log) error { return nil }))
	require.EqualValues(t, 1, h.store.entered.Load())
}

// Whatever the number of workers, a session is in the hands of one: else its order would be that of two transactions.
func TestSessionAtWorkIsHeldBack(t *testing.T) {
	h := hold(t)
	h.send(t, texts(2*committer.Worthwhile, func() uuid.UUID { return h.first })...)
	changed := make(chan struct{})
	h.waiting(t, 2*committer.Worthwhile)
	h.wg.Go(func() {
		defer close(changed)
		if err := h.Change(context.WithoutCancel(t.Context()), h.first, func(context.Context, session.Log) error { return nil }); err != nil {
			t.Error(err)
		}
	})
	h.waiting(t, 2*committer.Worthwhile+1)
	h.clock.Advance(committer.Patience)
	h.send(t, texts(committer.Worthwhile, uuid.New)...) // the other worker is free for these
	h.atWork(t, 2)
	require.Equal(t, 2*committer.Worthwhile+1, h.Waiting())
	select {
	case <-changed:
		t.Fatal("changed while its session was at work")
	default:
	}
	h.open()
	h.wg.Wait()
	h.Close()
	seqs := h.pub.seqs[h.first]
	require.Len(t, seqs, 2*committer.Worthwhile+2)
	for i, seq := range seqs {
		require.EqualValues(t, i+1, seq)
	}
}
