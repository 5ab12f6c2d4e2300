package stream_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// A user comes to a group, is removed, and comes back, now and then with the past shown, while those who tell the node of it
// run beside each other: the publisher, behind the commits, and the feed, before it or after. A stream shows what the user
// may see: ascending, nothing twice, nothing else, and from where it began all that came while the user was a member.
func TestComingBack(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 50
	}
	for name, sink := range map[string]func(*device) stream.Sink{
		"in its call": func(d *device) stream.Sink { return d },
		"parked":      func(d *device) stream.Sink { return parkable{d} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds {
				comeBack(t, rand.New(rand.NewPCG(seed, 1)), sink) //nolint:gosec // a test's
			}
		})
	}
}

// jitter lets others run, for about as long as they take.
func jitter() {
	for range rand.IntN(30) { //nolint:gosec // a test's
		runtime.Gosched()
	}
	if rand.IntN(8) == 0 { //nolint:gosec // a test's
		time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) //nolint:gosec // a test's
	}
}

func comeBack(t *testing.T, rng *rand.Rand, sink func(*device) stream.Sink) {
	w := newWorld(t, stream.Config{})
	w.rereads, w.reread, w.cold = jitter, jitter, rng.IntN(2) == 0
	id := group(w, "alice")
	d := w.subscribe(t, "bob", "b1", stream.Request{}, func(d *device) { d.sink = sink(d) })
	d.caughtUp()

	stop := make(chan struct{})
	var beside sync.WaitGroup
	w.silent = true
	beside.Go(func() { w.publishBehind(id, stop) })
	beside.Go(func() {
		for n := 0; open(stop); n++ {
			if n%3 > 0 {
				w.hub.Joined("bob", id)
			}
			w.hub.Advance(id, w.head(id))
			jitter()
		}
	})
	sees, came, in, head := map[int64]bool{}, []int64(nil), int64(0), int64(0)
	come := func() {
		head = w.join(id, "bob")
		in = head
		for seq := int64(1); w.past && seq < head; seq++ {
			sees[seq] = true
		}
	}
	for range 60 {
		was := in
		switch n := rng.IntN(8); {
		case n < 3 || n == 3 && in > 0:
			head = w.send(id, "alice", "a1", "hi")
		case n == 3:
			w.mu.Lock()
			w.past = !w.past
			w.mu.Unlock()
			continue
		case in == 0:
			come()
		default:
			head, in = w.kick(id, "bob"), 0
		}
		if was > 0 || in > 0 {
			sees[head] = true
			came = append(came, head)
		}
		jitter()
	}
	close(stop)
	beside.Wait()
	w.silent = false
	if in == 0 {
		come()
		sees[head] = true
	}
	head = w.send(id, "alice", "a1", "last")
	sees[head] = true
	w.hub.Joined("bob", id) // as the feed would
	got := d.until(id, head)
	for i, seq := range got {
		require.True(t, sees[seq], "%d of %v", seq, got)
		require.True(t, i == 0 || got[i-1] < seq, "%d after %d in %v", seq, got[max(i-1, 0)], got)
	}
	require.LessOrEqual(t, got[0], in)
	for _, seq := range append(came, in, head) {
		require.True(t, seq < got[0] || slices.Contains(got, seq), "no %d in %v", seq, got)
	}
	d.stop()
	require.NoError(t, w.mgr.Drain(t.Context()))
}

func open(stop chan struct{}) bool {
	select {
	case <-stop:
		return false
	default:
		return true
	}
}

func (w *world) head(id uuid.UUID) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int64(len(w.logs[id]))
}

// publishBehind publishes what is committed from now on, some of it at once, until stop is closed.
func (w *world) publishBehind(id uuid.UUID, stop chan struct{}) {
	for next := w.head(id); open(stop); jitter() {
		w.mu.Lock()
		waits := append([]message.Entry(nil), w.logs[id][next:]...)
		w.mu.Unlock()
		for next += int64(len(waits)); len(waits) > 0; jitter() {
			n := 1 + rand.IntN(len(waits)) //nolint:gosec // a test's
			batch := make([]*wire.Entry, n)
			for i, e := range waits[:n] {
				batch[i] = wire.Encode(e)
			}
			w.hub.Publish(batch)
			waits = waits[n:]
		}
	}
}

// parkable is a device whose stream is parked when there is nothing to send.
type parkable struct{ *device }

func (p parkable) Detach(func(error)) stream.Direct { return p }
func (p parkable) Waiting() bool                    { return false }
func (p parkable) Finish() error                    { return nil }
func (p parkable) Context() context.Context         { return p.t.Context() }
func (p parkable) End(error)                        {}

// A user was removed while the node heard nothing, and came back to a group that shows its past: the removal is part of what
// the stream pulls then, and ends nothing.
func TestAnOldRemovalIsNotTheEnd(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	d := w.subscribe(t, "bob", "b1", stream.Request{})
	d.caughtUp()
	w.silent, w.past = true, true
	w.kick(id, "bob")
	w.send(id, "alice", "a1", "meanwhile")
	w.join(id, "bob")
	w.silent = false
	w.hub.Joined("bob", id)
	last := w.send(id, "alice", "a1", "live")
	first := shown(d.caughtUp(), id)[0]
	require.Equal(t, seqs(first, last), d.until(id, last))
	// The next one is.
	cut := w.kick(id, "bob")
	w.send(id, "alice", "a1", "not for bob")
	w.past = false
	back := w.join(id, "bob")
	require.Equal(t, append(seqs(first, cut), back), d.until(id, back))
}
