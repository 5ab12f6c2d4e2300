package app

import (
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/hub"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/statecache"
	"github.com/parley-im/parley/server/wire"
)

// told is the hub, and takes what it is given; during runs before it does.
type told struct {
	during  func()
	seqs    []int64
	started int
}

func (h *told) Publish(entries []*wire.Entry) {
	if h.during != nil {
		h.during()
	}
	for _, e := range entries {
		h.seqs = append(h.seqs, e.Seq)
	}
}

func (h *told) DirectStarted(uuid.UUID, [2]string) { h.started++ }

// lifeWorld is a publisher with its ring and hub, and a life of the log, "one" to begin with. When it changes the ring and
// the hub forget, as newLife makes them.
type lifeWorld struct {
	life *epoch
	ring *ring.Ring
	hub  *told
	publisher
	id    uuid.UUID
	heads map[uuid.UUID]int64 // that were told
}

func newLifeWorld() *lifeWorld {
	clock := clockwork.NewRealClock()
	w := &lifeWorld{life: &epoch{}, ring: ring.New(1<<20, nil), hub: &told{}, id: uuid.New(), heads: map[uuid.UUID]int64{}}
	u := newUnderway()
	u.tell = func(_ string, id uuid.UUID, head int64) { w.heads[id] = head }
	w.publisher = publisher{&offline.Publisher{Ring: w.ring, Hub: w.hub,
		Keeper: offline.NewKeeper(nil, clock, slog.New(slog.DiscardHandler), nil)}, w.life,
		statecache.New(nil, nil, nil, statecache.Config{}, clock, nil), u}
	w.life.changed = func(string, string) {
		u.forget()
		w.ring.Clear()
		w.hub.seqs = nil
	}
	w.life.set("one")
	return w
}

func (w *lifeWorld) entry(seq int64) []message.Entry {
	return []message.Entry{{SessionID: w.id, Seq: seq, MessageID: uuid.New(), SenderID: "alice", Type: message.TypeText}}
}

func (w *lifeWorld) holds(seq int64) bool {
	_, ok := w.ring.Range(message.Range{SessionID: w.id, From: seq - 1, To: seq})
	return ok
}

// What was committed in a former life and waited for the publisher when the log went over to another one reaches neither
// the ring nor the streams, and no longer counts as under way; what is of the present life does.
func TestEntriesOfAFormerLifeAreNotPublished(t *testing.T) {
	w := newLifeWorld()
	w.underway.add(w.id, 3) // committed, or about to be
	w.underway.advanced("one", w.id, 30)
	w.Publish("one", w.entry(1))
	require.True(t, w.holds(1))
	require.True(t, w.life.observe("two"))

	w.Publish("one", w.entry(2))
	w.DirectStarted("one", w.id, [2]string{"alice", "bob"})
	require.False(t, w.holds(2))
	require.Empty(t, w.hub.seqs)
	require.Zero(t, w.hub.started)

	w.Publish("two", w.entry(1))
	w.DirectStarted("two", w.id, [2]string{"alice", "bob"})
	require.True(t, w.holds(1))
	require.Equal(t, []int64{1}, w.hub.seqs)
	require.Equal(t, 1, w.hub.started)
	require.Empty(t, w.underway.count, "what was dropped is under way for ever")
	require.Empty(t, w.heads, "a head of the former life was told in the present one")
}

// A life does not end between the look at it and the telling: what is being told then is forgotten with all that came before.
func TestLifeDoesNotEndWhileEntriesAreTold(t *testing.T) {
	w := newLifeWorld()
	observed := make(chan struct{})
	w.hub.during = func() {
		w.hub.during = nil
		go func() { w.life.observe("two"); close(observed) }()
		for w.life.telling.TryRLock() { // until the other one waits for its turn
			w.life.telling.RUnlock()
		}
		require.Equal(t, "one", w.life.Current())
	}
	w.Publish("one", w.entry(1))
	<-observed
	require.Equal(t, "two", w.life.Current())
	require.False(t, w.holds(1))
	require.Empty(t, w.hub.seqs)
}

// What a poll that the former primary answered found of heads is not told in the present life: they may lie beyond what is
// there now, and streams would look for entries that nobody has. Not even where it waited for commits of this node.
func TestHeadsOfAFormerLifeAreNotTold(t *testing.T) {
	w := newLifeWorld()
	sink := &feedSink{epoch: w.life, ring: w.ring, hub: hub.New(), underway: w.underway}
	w.underway.tell = sink.tellAdvanced
	w.underway.add(w.id, 1)
	sink.Advanced("one", w.id, 30)
	require.True(t, w.life.observe("two"))
	sink.Advanced("one", w.id, 31) // the poll had begun before
	w.ring.Append(wire.Encode(w.entry(1)[0]))
	w.underway.add(w.id, -1)
	sink.Advanced("one", w.id, 32)
	require.True(t, w.holds(1), "the ring believes that it is behind a head of the former life")
	sink.Advanced("two", w.id, 2)
	require.False(t, w.holds(1))
}
