package stream_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
)

// A newer stream of the device on another node ends this node's, and an older one does not.
func TestNewerStreamElsewhereDisplaces(t *testing.T) {
	w := newWorld(t, stream.Config{})
	d := w.subscribe(t, "alice", "a1", stream.Request{})
	d.caughtUp()
	require.Equal(t, []int64{1}, w.told)
	other := w.subscribe(t, "alice", "a2", stream.Request{})
	other.caughtUp()
	w.mgr.Started("alice", "a1", 1) // itself, by way of the commit log
	require.Equal(t, []int64{1, 2}, w.told)
	w.mgr.Started("alice", "a2", 1) // an older one, whose node has not heard of this
	require.Equal(t, []int64{1, 2, 2}, w.told)
	w.mgr.Started("nobody", "x", 9)
	require.True(t, w.mgr.Has("alice", "a1"))
	w.mgr.Started("alice", "a1", 3)
	require.Equal(t, refusal.StreamDisplaced, reasonOf(<-d.done))
	require.True(t, w.mgr.Has("alice", "a2"))
	w.told = nil
	w.mgr.ReloadAll() // something may have been missed
	require.Contains(t, w.told, int64(2))
}

// A stream that hears of others before it has its number is judged once it has.
func TestStreamWithoutNumberIsJudgedLater(t *testing.T) {
	for heard, ends := range map[int64]bool{1: false, 2: false, 3: true} {
		w := newWorld(t, stream.Config{})
		w.number = 1 // the stream's will be 2
		asked, answer := make(chan struct{}), make(chan struct{})
		w.starts = func(context.Context, []stream.Ask) error {
			close(asked)
			<-answer
			return nil
		}
		d := w.subscribe(t, "alice", "a1", stream.Request{})
		<-asked
		w.mgr.Started("alice", "a1", heard)
		w.mgr.Started("alice", "a1", 1)
		require.True(t, w.mgr.Has("alice", "a1"))
		close(answer)
		if ends {
			require.Equal(t, refusal.StreamDisplaced, reasonOf(<-d.done))
			require.Empty(t, w.told, "nobody is told of a stream that never was")
			continue
		}
		d.caughtUp()
		require.Equal(t, []int64{2}, w.told)
	}
}

// A call that waited long for its number may be one that its device has given up: it does not displace a stream that began
// meanwhile, and where there is none it is as good as any other.
func TestLateCallDisplacesNothingNewer(t *testing.T) {
	late := func(t *testing.T) (*world, *device, *clockwork.FakeClock, chan struct{}) {
		clock := clockwork.NewFakeClock()
		w := newWorldAt(t, stream.Config{}, nil, clock)
		w.number = 20 // the stream's will be 21, however old its call
		asked, answer := make(chan struct{}), make(chan struct{})
		w.starts = func(context.Context, []stream.Ask) error {
			close(asked)
			<-answer
			return nil
		}
		w.mgr.Started("somebody", "x", 10) // the newest that the node has heard of
		d := w.subscribe(t, "alice", "a1", stream.Request{})
		<-asked
		clock.Advance(3 * time.Second)
		return w, d, clock, answer
	}
	told := func(w *world) []int64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Clone(w.told)
	}
	t.Run("a newer one is heard of before", func(t *testing.T) {
		w, d, _, answer := late(t)
		w.mgr.Started("alice", "a1", 15)
		close(answer)
		require.Equal(t, refusal.Unavailable, reasonOf(<-d.done), "it may come back, should it be alive")
		require.Empty(t, told(w))
	})
	t.Run("a newer one is heard of afterwards", func(t *testing.T) {
		w, d, clock, answer := late(t)
		close(answer)
		d.caughtUp()
		require.Equal(t, []int64{10}, told(w), "it does not claim to be newer")
		clock.Advance(4 * time.Second)
		w.mgr.Settle()
		require.Equal(t, []int64{10}, told(w))
		w.mgr.Started("alice", "a1", 15)
		require.Equal(t, refusal.Unavailable, reasonOf(<-d.done))
	})
	t.Run("there is only an older one", func(t *testing.T) {
		w, d, clock, answer := late(t)
		w.mgr.Started("alice", "a1", 9)
		close(answer)
		d.caughtUp()
		clock.Advance(5 * time.Second)
		w.mgr.Settle()
		require.Equal(t, []int64{10, 21}, told(w))
		w.mgr.Settle()
		w.mgr.Started("alice", "a1", 15) // from now on like any other
		require.Equal(t, []int64{10, 21, 21}, told(w))
		w.mgr.Started("alice", "a1", 22)
		require.Equal(t, refusal.StreamDisplaced, reasonOf(<-d.done))
	})
}

// A stream that another one on this node displaced before it got its number is not told of: it could end the other one.
func TestDisplacedStreamIsNotTold(t *testing.T) {
	w := newWorld(t, stream.Config{})
	asked, answer := make(chan struct{}, 2), make(chan struct{})
	w.starts = func(context.Context, []stream.Ask) error {
		asked <- struct{}{}
		<-answer
		return nil
	}
	older := w.subscribe(t, "alice", "a1", stream.Request{})
	<-asked
	newer := w.subscribe(t, "alice", "a1", stream.Request{})
	<-asked
	close(answer)
	require.Equal(t, refusal.StreamDisplaced, reasonOf(<-older.done))
	newer.caughtUp()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Equal(t, []int64{2}, w.told)
}

// A user whose news could not be read is asked to come back, which tells all.
func TestRecall(t *testing.T) {
	w := newWorld(t, stream.Config{})
	called, other := w.subscribe(t, "alice", "a1", stream.Request{}), w.subscribe(t, "bob", "b1", stream.Request{})
	called.caughtUp()
	other.caughtUp()
	w.mgr.Recall("alice")
	err := <-called.done
	require.Equal(t, refusal.Unavailable, reasonOf(err))
	var e *refusal.Error
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Meta["retry_after_ms"])
	require.True(t, w.mgr.Has("bob", "b1"))
}

// leaving is a sink whose stream is ended in the moment in which it is taken from its call.
type leaving struct {
	*device
	ended chan error
}

func (l leaving) Detach(func(error)) stream.Direct {
	l.w.mgr.EndDevice("alice", "a1", refusal.DeviceRevoked)
	return l
}
func (leaving) Waiting() bool            { return false }
func (leaving) Finish() error            { return nil }
func (leaving) Context() context.Context { return context.Background() }
func (l leaving) End(why error)          { l.ended <- why }

// The device is told of the end also when that comes between the call, which can say nothing any more, and parking.
func TestStreamThatEndsWhileItLeavesItsCallSaysSo(t *testing.T) {
	w := newWorld(t, stream.Config{})
	d := &device{t: t, w: w}
	d.cond = sync.NewCond(&d.mu)
	sink := leaving{d, make(chan error, 1)}
	require.NoError(t, w.mgr.Serve(t.Context(), stream.Caller{UserID: "alice", DeviceID: "a1"}, stream.Request{}, sink))
	select {
	case why := <-sink.ended:
		require.Equal(t, refusal.DeviceRevoked, reasonOf(why))
	default:
		t.Fatal("the connection was taken, and nobody has ended it")
	}
	require.Zero(t, w.mgr.Streams())
}

func reasonOf(err error) refusal.Reason {
	r, _ := refusal.Of(err)
	return r
}
