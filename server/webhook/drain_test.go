package webhook

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
)

// lane is a store with one lane.
type lane struct {
	mu       sync.Mutex
	hook     Webhook
	waits    []Delivery
	settled  []State
	needless int
	parts    [][]string
	entry    message.Entry
	members  []string
}

func (l *lane) Next(context.Context, uuid.UUID, uuid.UUID) (w Webhook, d Delivery, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waits) == 0 {
		return w, d, false, nil
	}
	return l.hook, l.waits[0], true, nil
}

func (l *lane) Settle(_ context.Context, _ Delivery, _ Attempt, s State, due time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = append(l.settled, s)
	if s == Waiting {
		l.waits[0].Attempts++
		l.waits[0].DueAt = due
		return nil
	}
	l.waits = l.waits[1:]
	return nil
}

func (l *lane) Needless(context.Context, uuid.UUID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.needless++
	l.waits = l.waits[1:]
	return nil
}

func (l *lane) Split(_ context.Context, _ uuid.UUID, parts [][]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts = parts
	var next []Delivery
	for i, p := range parts {
		d := l.waits[0]
		d.Chunk, d.Users = int32(i+1), p
		next = append(next, d)
	}
	l.waits = append(next, l.waits[1:]...)
	return nil
}

func (l *lane) Entry(context.Context, uuid.UUID, int64) (message.Entry, bool, error) {
	return l.entry, l.entry.Seq > 0, nil
}

func (l *lane) Audience(_ context.Context, _ message.Entry, after string, limit int) (out []string, _ error) {
	for _, m := range l.members {
		if m > after && len(out) < limit {
			out = append(out, m)
		}
	}
	return out, nil
}

func (l *lane) StillOffline(_ context.Context, _ message.Entry, users []string) (out []*parleyv1.OfflineUser, _ error) {
	for _, u := range users {
		out = append(out, &parleyv1.OfflineUser{UserId: u})
	}
	return out, nil
}

// there is who is online, and the epoch.
type there map[string]bool

func (o there) Online(context.Context, []string) map[string]bool { return o }
func (o there) Current() string                                  { return "epoch" }

type drained struct {
	*lane
	*Drainer
	clock  *clockwork.FakeClock
	status int
	hits   atomic.Int32
}

func newDrained(t *testing.T, online ...string) *drained {
	d := &drained{lane: &lane{entry: message.Entry{Seq: 1, SessionID: uuid.New(), Type: message.TypeText}}, clock: clockwork.NewFakeClock(), status: http.StatusOK}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		d.hits.Add(1)
		w.WriteHeader(d.status)
	}))
	t.Cleanup(srv.Close)
	w, sealer := hook(t, srv.URL)
	d.hook = w
	o := there{}
	for _, u := range online {
		o[u] = true
	}
	d.Drainer = NewDrainer(d.lane, o, o, NewSender(loopback(t), sealer, d.clock, "test"), d.clock, NewMetrics(nil))
	return d
}

func (d *drained) wait(events ...EventType) {
	for _, e := range events {
		d.waits = append(d.waits, Delivery{ID: uuid.New(), Event: e, SessionID: d.entry.SessionID, Seq: 1, Users: []string{"a", "b"}, DueAt: d.clock.Now()})
	}
}

func TestDrainGoesInOrderAndWaitsForWhatFailed(t *testing.T) {
	d := newDrained(t)
	d.wait(MessageCreated, RelationChanged, MessageRecalled)
	rest, err := d.Drain(t.Context(), uuid.Nil, uuid.Nil)
	require.NoError(t, err)
	require.Equal(t, Rest{Done: true}, rest)
	require.Equal(t, []State{Delivered, Delivered, Delivered}, d.settled)

	d.status, d.settled = http.StatusInternalServerError, nil
	d.hits.Store(0)
	d.wait(MessageCreated, MessageCreated)
	for i := range Schedule {
		rest, err = d.Drain(t.Context(), uuid.Nil, uuid.Nil)
		require.NoError(t, err)
		require.InDelta(t, Schedule[i].Seconds(), rest.Wait.Seconds(), Schedule[i].Seconds()/10)
		again, err := d.Drain(t.Context(), uuid.Nil, uuid.Nil)
		require.NoError(t, err)
		require.Positive(t, again.Wait, "not before its time, whoever asks")
		require.EqualValues(t, i+1, d.hits.Load())
		d.clock.Advance(rest.Wait)
	}
	rest, err = d.Drain(t.Context(), uuid.Nil, uuid.Nil)
	require.NoError(t, err)
	require.Positive(t, rest.Wait, "the next one has its own attempts")
	require.Equal(t, GivenUp, d.settled[len(Schedule)])
	require.Equal(t, Waiting, d.settled[len(Schedule)+1])
	require.Len(t, d.waits, 1)
}

func TestDrainBudgetAndCrowd(t *testing.T) {
	d := newDrained(t)
	d.wait(MessageCreated)
	for range MaxInFlight {
		require.True(t, d.enter(d.hook.ID))
	}
	rest, err := d.Drain(t.Context(), d.hook.ID, uuid.Nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, rest.Wait, crowded)
	require.Zero(t, d.hits.Load())
	for range MaxInFlight {
		d.leave(d.hook.ID)
	}
	require.Empty(t, d.inFlight)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Drain(ctx, d.hook.ID, uuid.Nil)
	require.Error(t, err, "a node that goes down counts no attempt")
	require.Empty(t, d.settled)
}

func TestOfflineAudienceIsSplitAndBounded(t *testing.T) {
	d := newDrained(t, "u0001", "u0700")
	for i := range 2*PartSize + 3 {
		d.members = append(d.members, fmt.Sprintf("u%04d", i))
	}
	d.wait(MessageOffline)
	rest, err := d.Drain(t.Context(), uuid.Nil, uuid.Nil)
	require.NoError(t, err)
	require.True(t, rest.Done)
	require.Equal(t, []int{PartSize, PartSize, 1}, []int{len(d.parts[0]), len(d.parts[1]), len(d.parts[2])})
	require.NotContains(t, d.parts[0], "u0001")
	require.EqualValues(t, 3, d.hits.Load())

	d.entry.IsDeleted = true
	d.wait(MessageOffline)
	_, err = d.Drain(t.Context(), uuid.Nil, uuid.Nil)
	require.NoError(t, err)
	require.Equal(t, 1, d.needless)
	d.entry, d.members = message.Entry{Seq: 1}, []string{"u0001"}
	d.wait(MessageOffline)
	_, err = d.Drain(t.Context(), uuid.Nil, uuid.Nil)
	require.NoError(t, err)
	require.Equal(t, 2, d.needless, "all of them are there")
	require.EqualValues(t, 3, d.hits.Load())
}
