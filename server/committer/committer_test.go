package committer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a log in memory that can be stopped, and that refuses whole batches which hold a poisoned body, as
// PostgreSQL does with a value it cannot take.
type memory struct {
	mu      sync.Mutex
	gate    sync.Mutex // held: commits wait
	heads   map[uuid.UUID]int64
	seen    map[string]message.Receipt
	digests map[string]int64 // of what was seen
	batches []int
	down    error
	epoch   string
	entered atomic.Int64
}

func newMemory() *memory {
	return &memory{heads: map[uuid.UUID]int64{}, seen: map[string]message.Receipt{}, digests: map[string]int64{}}
}

var errPoison = errors.New("invalid byte sequence")

func (m *memory) Append(_ context.Context, drafts []message.Draft, now time.Time) ([]committer.Outcome, error) {
	m.entered.Add(1)
	m.gate.Lock()
	defer m.gate.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batches = append(m.batches, len(drafts))
	if m.down != nil {
		return nil, m.down
	}
	for _, d := range drafts {
		if string(d.Body) == "poison" {
			return nil, errPoison
		}
	}
	out := make([]committer.Outcome, len(drafts))
	for i, d := range drafts {
		key := fmt.Sprint(d.SessionID, d.MessageID, d.SenderID)
		if r, ok := m.seen[key]; ok {
			out[i].Receipt = r
			if m.digests[key] != d.Digest {
				out[i] = committer.Outcome{Err: committer.ErrIDReused}
			}
			continue
		}
		if string(d.Body) == "refused" {
			out[i].Err = session.Unavailable
			continue
		}
		m.heads[d.SessionID]++
		out[i] = committer.Outcome{New: true, Receipt: message.Receipt{Epoch: m.epoch, SessionID: d.SessionID, MessageID: d.MessageID,
			Seq: m.heads[d.SessionID], CreatedAt: now}}
		m.seen[key], m.digests[key] = out[i].Receipt, d.Digest
	}
	return out, nil
}

func (m *memory) WithLog(ctx context.Context, id uuid.UUID, fn session.Change) ([]message.Entry, string, error) {
	if err := fn(ctx, nil); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heads[id]++
	return []message.Entry{{SessionID: id, Seq: m.heads[id], Type: message.TypeRecall}}, m.epoch, nil
}

// published collects entries and fails on one that is out of order.
type published struct {
	mu      sync.Mutex
	seqs    map[uuid.UUID][]int64
	started []uuid.UUID
	epochs  []string // of each call
}

func (p *published) Publish(epoch string, entries []message.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epochs = append(p.epochs, epoch)
	for _, e := range entries {
		p.seqs[e.SessionID] = append(p.seqs[e.SessionID], e.Seq)
	}
}

func (p *published) DirectStarted(epoch string, id uuid.UUID, _ [2]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epochs = append(p.epochs, epoch)
	p.started = append(p.started, id)
}

func setUp(t testing.TB, workers int) (*committer.Committer, *memory, *published) {
	store, pub := newMemory(), &published{seqs: map[uuid.UUID][]int64{}}
	c := committer.New(workers, store, pub, clockwork.NewRealClock(), slog.New(slog.DiscardHandler), nil)
	t.Cleanup(c.Close)
	return c, store, pub
}

// await waits for ok and opens the gate, whether ok came or not: nothing may hang behind it.
func await(t *testing.T, store *memory, ok func() bool) {
	t.Helper()
	defer store.gate.Unlock()
	require.Eventually(t, ok, time.Minute, time.Millisecond)
}

func text(id uuid.UUID, body string) message.Draft {
	return message.Draft{SessionID: id, MessageID: uuid.New(), SenderID: "alice", Type: message.TypeText, Body: []byte(body),
		Digest: message.Digest(message.TypeText, []byte(body))}
}

func TestEverySendIsAnsweredAndPublishedInOrder(t *testing.T) {
	c, _, pub := setUp(t, 4)
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := range 50 {
				out, err := c.Send(t.Context(), []message.Draft{text(ids[n%5], "a"), text(ids[(n+1)%5], "b")})
				if err != nil || out[0].Err != nil || out[1].Err != nil {
					t.Errorf("send: %v %v", err, out)
				}
			}
		})
	}
	wg.Wait()
	c.Close() // waits for the publishers
	total := 0
	for _, id := range ids {
		for i, seq := range pub.seqs[id] {
			require.EqualValues(t, i+1, seq)
		}
		total += len(pub.seqs[id])
	}
	require.Equal(t, 1600, total)
	require.EqualValues(t, 1600, c.Sent())
}

func TestWhatWaitsIsCommittedTogether(t *testing.T) {
	c, store, _ := setUp(t, 1)
	store.gate.Lock()
	var wg sync.WaitGroup
	id := uuid.New()
	send := func() { _, _ = c.Send(t.Context(), []message.Draft{text(id, "x")}) }
	wg.Go(send)
	require.Eventually(t, func() bool { return store.entered.Load() == 1 }, time.Minute, time.Millisecond)
	for range 200 {
		wg.Go(send)
	}
	await(t, store, func() bool { return c.Waiting() == 200 })
	wg.Wait()
	require.Equal(t, []int{1, 200}, store.batches)
}

func TestBatchBounds(t *testing.T) {
	c, store, _ := setUp(t, 1)
	id := uuid.New()
	drafts := make([]message.Draft, committer.MaxBatch+1)
	for i := range drafts {
		drafts[i] = text(id, "x")
	}
	_, err := c.Send(t.Context(), drafts)
	require.NoError(t, err)
	for _, n := range store.batches {
		require.LessOrEqual(t, n, committer.MaxBatch)
	}
	store.batches = nil
	body := string(make([]byte, 1<<20))
	big := make([]message.Draft, 6)
	for i := range big {
		big[i] = text(id, body)
	}
	_, err = c.Send(t.Context(), big)
	require.NoError(t, err)
	for _, n := range store.batches {
		require.LessOrEqual(t, n, 4)
	}
}

func TestRepeatsWithinABatchAreFolded(t *testing.T) {
	c, store, pub := setUp(t, 1)
	d := text(uuid.New(), "once")
	other := d
	other.Body, other.Digest = []byte("twice"), message.Digest(message.TypeText, []byte("twice"))
	out, err := c.Send(t.Context(), []message.Draft{d, d, other})
	require.NoError(t, err)
	require.NoError(t, out[0].Err)
	require.Equal(t, out[0].Receipt, out[1].Receipt)
	require.ErrorIs(t, out[2].Err, committer.ErrIDReused)
	require.EqualValues(t, 1, store.heads[d.SessionID])
	c.Close()
	require.Equal(t, []int64{1}, pub.seqs[d.SessionID])
}

// An id whose message was refused is unused: with another body it stands for itself, in its place.
func TestRefusedIDIsFreeWithinItsBatch(t *testing.T) {
	c, _, pub := setUp(t, 1)
	refused := text(uuid.New(), "refused")
	other, behind := text(refused.SessionID, "other"), text(refused.SessionID, "behind")
	other.MessageID = refused.MessageID
	out, err := c.Send(t.Context(), []message.Draft{refused, refused, other, behind, refused})
	require.NoError(t, err)
	require.ErrorIs(t, out[0].Err, session.Unavailable)
	require.ErrorIs(t, out[1].Err, session.Unavailable)
	require.EqualValues(t, 1, out[2].Receipt.Seq)
	require.EqualValues(t, 2, out[3].Receipt.Seq)
	require.ErrorIs(t, out[4].Err, committer.ErrIDReused)
	c.Close()
	require.Equal(t, []int64{1, 2}, pub.seqs[refused.SessionID])
}

func TestOneBadItemNeverFailsItsBatch(t *testing.T) {
	c, _, _ := setUp(t, 1)
	id := uuid.New()
	out, err := c.Send(t.Context(), []message.Draft{text(id, "good"), text(id, "poison"), text(id, "good too")})
	require.NoError(t, err)
	require.NoError(t, out[0].Err)
	require.ErrorIs(t, out[1].Err, errPoison)
	require.NoError(t, out[2].Err)
}

func TestUnavailableStoreFailsTheBatchOnce(t *testing.T) {
	c, store, _ := setUp(t, 1)
	store.down = refusal.New(refusal.Unavailable, "away")
	out, err := c.Send(t.Context(), []message.Draft{text(uuid.New(), "a"), text(uuid.New(), "b")})
	require.NoError(t, err)
	for _, o := range out {
		require.ErrorIs(t, o.Err, store.down)
	}
	require.LessOrEqual(t, len(store.batches), 2, "not tried one by one: the outcome is unknown")
}

func TestCallerWhoLeavesIsNotWaitedFor(t *testing.T) {
	c, store, _ := setUp(t, 1)
	store.gate.Lock()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Send(ctx, []message.Draft{text(uuid.New(), "x")})
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	store.gate.Unlock()
}

func TestQueueIsBounded(t *testing.T) {
	c, store, _ := setUp(t, 1)
	store.gate.Lock()
	id := uuid.New()
	first := make(chan struct{})
	go func() {
		defer close(first)
		_, _ = c.Send(t.Context(), []message.Draft{text(id, "holds the worker")})
	}()
	for store.entered.Load() == 0 { // else the worker may take all that is to fill the queue
		time.Sleep(time.Millisecond)
	}
	drafts := make([]message.Draft, 2*committer.MaxWaiting)
	for i := range drafts {
		drafts[i] = text(id, "x")
	}
	done := make(chan []committer.Outcome)
	go func() {
		out, _ := c.Send(t.Context(), drafts)
		done <- out
	}()
	await(t, store, func() bool { return c.Waiting() == committer.MaxWaiting })
	refused := 0
	for _, o := range <-done {
		if r, _ := refusal.Of(o.Err); r == refusal.Overloaded {
			refused++
		}
	}
	require.Positive(t, refused)
	<-first
}

func TestChangesRunAndTheirErrorsComeBack(t *testing.T) {
	c, _, pub := setUp(t, 2)
	id := uuid.New()
	require.NoError(t, c.Change(t.Context(), id, func(context.Context, session.Log) error { return nil }))
	no := refusal.New(refusal.RoleTooLow, "no")
	require.ErrorIs(t, c.Change(t.Context(), id, func(context.Context, session.Log) error { return no }), no)
	c.Close()
	require.Equal(t, []int64{1}, pub.seqs[id])
	r, _ := refusal.Of(c.Change(t.Context(), id, func(context.Context, session.Log) error { return nil }))
	require.Equal(t, refusal.ShuttingDown, r)
}

// Each batch is handed on with the epoch that it was committed in, whatever the log's life is when its turn comes.
func TestEntriesAreHandedOnWithTheirEpoch(t *testing.T) {
	c, store, pub := setUp(t, 1)
	d := text(uuid.New(), "hi")
	d.Peer = "bob"
	store.epoch = "former"
	out, err := c.Send(t.Context(), []message.Draft{d})
	require.NoError(t, err)
	require.Equal(t, "former", out[0].Receipt.Epoch)
	store.mu.Lock()
	store.epoch = "present"
	store.mu.Unlock()
	require.NoError(t, c.Change(t.Context(), d.SessionID, func(context.Context, session.Log) error { return nil }))
	c.Close()
	require.Equal(t, []string{"former", "former", "present"}, pub.epochs, "entry, direct session, change")
}

func TestFirstDirectMessageIsTold(t *testing.T) {
	c, _, pub := setUp(t, 1)
	d := text(uuid.New(), "hi")
	d.Peer = "bob"
	_, err := c.Send(t.Context(), []message.Draft{d, text(d.SessionID, "again")})
	require.NoError(t, err)
	c.Close()
	require.Equal(t, []uuid.UUID{d.SessionID}, pub.started)
}
