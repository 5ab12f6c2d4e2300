package stream_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func group(w *world, users ...string) uuid.UUID {
	id := uuid.New()
	for _, u := range users {
		w.join(id, u)
	}
	return id
}

func TestBacklogThenCaughtUpThenLive(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	for range 1500 { // several pages
		w.send(id, "alice", "a1", "hi")
	}
	w.synced["bob/b1"] = true
	d := w.subscribe(t, "bob", "b1", stream.Request{})
	evs := d.caughtUp()
	require.NotNil(t, evs[0].GetOpened())
	require.Equal(t, seqs(2, 1502), shown(evs, id), "from the own join on")
	require.NotNil(t, evs[len(evs)-1].GetCaughtUp(), "after all of the backlog")

	w.send(id, "alice", "a1", "live")
	require.Equal(t, seqs(2, 1503), d.until(id, 1503))
}

func TestSendingDeviceIsLeftOutLiveAndServedFromTheBacklog(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	one := w.subscribe(t, "alice", "a1", stream.Request{})
	two := w.subscribe(t, "alice", "a2", stream.Request{})
	one.caughtUp()
	two.caughtUp()
	w.send(id, "alice", "a1", "mine")
	w.send(id, "bob", "b1", "his")
	require.Equal(t, []int64{1, 2, 4}, one.until(id, 4))
	require.Equal(t, []int64{1, 2, 3, 4}, two.until(id, 4))

	again := w.subscribe(t, "alice", "a1", stream.Request{Cursors: []stream.Cursor{{SessionID: id, Seq: 2}}})
	require.Equal(t, []int64{3, 4}, again.until(id, 4), "its answer may have been lost")
}

func TestGapIsPulled(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	d := w.subscribe(t, "bob", "b1", stream.Request{})
	d.caughtUp()
	w.silent = true
	w.send(id, "alice", "a1", "lost hint")
	w.send(id, "alice", "a1", "lost hint")
	w.silent = false
	w.send(id, "alice", "a1", "seen")
	require.Equal(t, seqs(2, 5), d.until(id, 5))

	w.silent = true
	last := w.send(id, "alice", "a1", "lost hint")
	w.hub.Advance(id, last)
	require.Equal(t, seqs(2, 6), d.until(id, 6), "a head is enough")
}

func TestSlowReaderLosesNothingAndMemoryIsBounded(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob", "carol")
	slow := w.subscribe(t, "bob", "b1", stream.Request{})
	fast := w.subscribe(t, "carol", "c1", stream.Request{})
	slow.caughtUp()
	fast.caughtUp()
	slow.pause()
	body := strings.Repeat("x", 2000)
	var last int64
	for range 600 { // 1.2 MB, past the bound
		last = w.send(id, "alice", "a1", body)
		require.LessOrEqual(t, w.mgr.QueueBytes(), int64(2*stream.MaxQueueBytes))
	}
	require.Equal(t, seqs(3, last), fast.until(id, last))
	slow.read()
	require.Equal(t, seqs(2, last), slow.until(id, last))
}

func TestKickIsACutAndComingBackIsToldAsSkipped(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	d := w.subscribe(t, "bob", "b1", stream.Request{})
	d.caughtUp()
	w.send(id, "alice", "a1", "seen")
	cut := w.kick(id, "bob")
	for range 5 {
		w.send(id, "alice", "a1", "not for bob")
	}
	back := w.join(id, "bob")
	last := w.send(id, "alice", "a1", "seen again")
	require.Equal(t, append(seqs(2, cut), back, last), d.until(id, last))
	evs := d.wait("skipped", func(evs []*parleyv1.Event) bool { return len(skips(evs, id)) > 0 })
	require.Equal(t, [][2]int64{{cut + 1, back - 1}}, skips(evs, id))

	late := w.subscribe(t, "bob", "b1", stream.Request{Cursors: []stream.Cursor{{SessionID: id, Seq: 2}}})
	require.Equal(t, append(seqs(3, cut), back, last), late.until(id, last), "the same from the backlog")

	short := w.subscribe(t, "bob", "b2", stream.Request{MaxBacklog: 4, Cursors: []stream.Cursor{{SessionID: id, Seq: 2}}})
	require.Equal(t, []int64{back, last}, short.until(id, last))
	require.Equal(t, [][2]int64{{3, last - 4}, {last - 3, back - 1}}, skips(short.caughtUp(), id), "a limit that ends between two memberships leaves no hole")
}

func TestCutHoldsForAStreamThatIsBehind(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	d := w.subscribe(t, "bob", "b1", stream.Request{})
	d.caughtUp()
	w.silent = true
	w.send(id, "alice", "a1", "seen")
	cut := w.kick(id, "bob")
	for range 3 {
		w.send(id, "alice", "a1", "not for bob")
	}
	w.silent = false
	w.send(id, "alice", "a1", "not for bob either") // the hint arrives, the cut did not
	require.Equal(t, seqs(2, cut), d.until(id, cut))
	// A session that comes after proves that the stream is through with the first.
	other := group(w, "bob")
	d.until(other, 1)
	require.Equal(t, seqs(2, cut), d.until(id, cut))
}

func TestNewDeviceRoams(t *testing.T) {
	w := newWorld(t, stream.Config{RoamBacklog: 10})
	id := group(w, "alice")
	for range 99 {
		w.send(id, "bob", "b1", "old")
	}
	d := w.subscribe(t, "alice", "new", stream.Request{})
	evs := d.caughtUp()
	require.Equal(t, seqs(91, 100), shown(evs, id))
	require.Equal(t, [][2]int64{{1, 90}}, skips(evs, id))
	require.True(t, w.synced["alice/new"])

	// What it did not acknowledge comes again, and no more is left out.
	d.stop()
	require.ErrorIs(t, <-d.done, context.Canceled)
	for range 50 {
		w.send(id, "bob", "b1", "later")
	}
	again := w.subscribe(t, "alice", "new", stream.Request{})
	evs = again.caughtUp()
	require.Equal(t, seqs(91, 150), shown(evs, id))
	require.Empty(t, skips(evs, id))

	limited := w.subscribe(t, "alice", "new", stream.Request{MaxBacklog: 5})
	evs = limited.caughtUp()
	require.Equal(t, seqs(146, 150), shown(evs, id))
	require.Equal(t, [][2]int64{{91, 145}}, skips(evs, id))
}

func TestBadCursorsAreAnsweredByResync(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice")
	foreign := group(w, "bob")
	reasons := func(evs []*parleyv1.Event) (out []parleyv1.ResyncReason) {
		for _, e := range evs {
			if r := e.GetResync(); r != nil {
				out = append(out, r.GetReason())
			}
		}
		return out
	}
	d := w.subscribe(t, "alice", "a1", stream.Request{Cursors: []stream.Cursor{{id, 99}, {foreign, 1}}})
	evs := d.caughtUp()
	require.Equal(t, []parleyv1.ResyncReason{parleyv1.ResyncReason_RESYNC_REASON_CURSOR_BEYOND_HEAD,
		parleyv1.ResyncReason_RESYNC_REASON_SESSION_UNAVAILABLE}, reasons(evs))
	require.Equal(t, seqs(1, 1), shown(evs, id), "a fresh start in that session")
	require.Empty(t, shown(evs, foreign))

	d = w.subscribe(t, "alice", "a1", stream.Request{Epoch: "epoch-0", Cursors: []stream.Cursor{{id, 1}}})
	evs = d.caughtUp()
	require.Equal(t, []parleyv1.ResyncReason{parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED}, reasons(evs))
	require.Equal(t, seqs(1, 1), shown(evs, id))
}

func TestEndings(t *testing.T) {
	w := newWorld(t, stream.Config{})
	group(w, "alice")
	older := w.subscribe(t, "alice", "a1", stream.Request{})
	older.caughtUp()
	newer := w.subscribe(t, "alice", "a1", stream.Request{})
	newer.caughtUp()
	reason := func(err error) refusal.Reason {
		r, _ := refusal.Of(err)
		return r
	}
	require.Equal(t, refusal.StreamDisplaced, reason(<-older.done))

	w.mgr.EndDevice("alice", "a1", refusal.DeviceRevoked)
	require.Equal(t, refusal.DeviceRevoked, reason(<-newer.done))

	other := w.subscribe(t, "alice", "a2", stream.Request{})
	other.caughtUp()
	w.mgr.Resync()
	other.wait("a fresh start", func(evs []*parleyv1.Event) bool {
		at := slices.IndexFunc(evs, func(ev *parleyv1.Event) bool { return ev.GetResync() != nil })
		return at > 0 && slices.ContainsFunc(evs[at:], func(ev *parleyv1.Event) bool { return ev.GetCaughtUp() != nil })
	})

	last := w.subscribe(t, "alice", "a2", stream.Request{})
	last.caughtUp()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, w.mgr.Drain(ctx))
	require.Equal(t, refusal.ShuttingDown, reason(<-last.done))
	refused := w.subscribe(t, "alice", "a2", stream.Request{})
	require.Equal(t, refusal.ShuttingDown, reason(<-refused.done))
	require.Zero(t, w.mgr.Streams())
	require.Zero(t, w.mgr.QueueBytes())
}

func TestHeartbeatWhenIdle(t *testing.T) {
	w := newWorld(t, stream.Config{Heartbeat: 20 * time.Millisecond})
	d := w.subscribe(t, "alice", "a1", stream.Request{})
	d.wait("heartbeats", func(evs []*parleyv1.Event) bool {
		n := 0
		for _, e := range evs {
			if e.GetHeartbeat() != nil {
				n++
			}
		}
		return n >= 3
	})
}

func TestRecallTakesTheBodyOutOfQueues(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	d := w.subscribe(t, "bob", "b1", stream.Request{})
	d.caughtUp()
	d.pause()
	w.send(id, "alice", "a1", "fills the frame that is being written")
	// Once the writer has taken it, what comes later waits behind the blocked write.
	require.Eventually(t, func() bool { return w.mgr.QueueBytes() == 0 }, 2*time.Minute, time.Millisecond)
	seq := w.send(id, "alice", "a1", "secret")
	recall := w.append(id, "alice", "a1", &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: seq}}}, nil)
	d.read()
	d.until(id, recall)
	for _, e := range d.wait("all", func([]*parleyv1.Event) bool { return true }) {
		if m := e.GetMessage(); m.GetSeq() == seq {
			require.True(t, m.GetIsDeleted())
			require.Nil(t, m.GetContent())
		}
	}
}
