package stream_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/stream"
)

// askedFor is how often states were read.
func (w *world) askedFor() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

// What a stream missed while it was open goes out with the states that it has by then; they are read only if the device
// was told, or did, anything about it before.
func TestStatesOfMissedEntriesAreReadOnlyIfTheyMayHaveChanged(t *testing.T) {
	const old, missed = 2, 4 // bob's first entry is 2
	for name, c := range map[string]struct {
		change func(w *world, id uuid.UUID)
		told   bool // an event comes of it
		asks   bool
		read   bool
	}{
		"nothing happened":             {},
		"an older one was read":        {change: func(w *world, id uuid.UUID) { w.mark(id, "bob", "b2", old) }, told: true},
		"the device read an older one": {change: func(w *world, id uuid.UUID) { w.mark(id, "bob", "b1", old) }},
		"it was read":                  {change: func(w *world, id uuid.UUID) { w.mark(id, "bob", "b2", missed) }, told: true, asks: true, read: true},
		"the device read it":           {change: func(w *world, id uuid.UUID) { w.mark(id, "bob", "b1", missed) }, asks: true, read: true},
		"something unknown happened": {change: func(w *world, id uuid.UUID) {
			w.set(id, missed)
			w.hub.NotifyUser("bob", "", &parleyv1.Event{Kind: &parleyv1.Event_State{State: &parleyv1.StateEvent{SessionId: id.String(), Reload: true}}})
		}, told: true, asks: true, read: true},
		"one was marked alone": {change: func(w *world, id uuid.UUID) {
			w.set(id, missed)
			w.hub.NotifyUser("bob", "", &parleyv1.Event{Kind: &parleyv1.Event_State{State: &parleyv1.StateEvent{SessionId: id.String(), ReadSeqs: []int64{missed}}}})
		}, told: true, asks: true, read: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, stream.Config{})
			id := group(w, "alice", "bob")
			d := w.subscribe(t, "bob", "b1", stream.Request{})
			d.caughtUp()
			w.send(id, "alice", "a1", "seen")
			d.until(id, 3)
			before := w.askedFor()
			w.silent = true
			require.EqualValues(t, missed, w.send(id, "alice", "a1", "missed"))
			if c.change != nil {
				c.change(w, id)
			}
			if c.told {
				d.wait("state", func(evs []*parleyv1.Event) bool { return evs[len(evs)-1].GetState() != nil })
			}
			w.hub.Advance(id, missed)
			require.Equal(t, seqs(2, missed), d.until(id, missed))
			require.Equal(t, c.asks, w.askedFor() > before)
			evs := d.caughtUp()
			require.Equal(t, c.read, evs[len(evs)-1].GetMessage().GetState().GetIsRead())
		})
	}
}

func TestMembershipThatChangedMakesMissedEntriesAskedFor(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	d := w.subscribe(t, "bob", "b1", stream.Request{})
	d.caughtUp()
	before := w.askedFor()
	w.silent = true
	w.kick(id, "bob")
	back := w.join(id, "bob")
	w.set(id, back)
	w.hub.Joined("bob", id)
	evs := d.wait("entry", func(evs []*parleyv1.Event) bool { return evs[len(evs)-1].GetMessage().GetSeq() == back })
	require.Greater(t, w.askedFor(), before)
	require.True(t, evs[len(evs)-1].GetMessage().GetState().GetIsRead())
}

// A parked stream that missed something gets it in order, among what was queued, whether or not it is in memory.
func TestParkedStreamCatchesUp(t *testing.T) {
	for name, cold := range map[string]bool{"from memory": false, "not in memory": true} {
		t.Run(name, func(t *testing.T) {
			d := newDirect(t, stream.Config{})
			d.cold = cold
			st := d.subscribe()
			before := d.askedFor()
			var want []string
			send := func(text string, silent bool) {
				d.silent = silent
				want = append(want, text)
				d.send(d.id, "bob", "d", text)
			}
			for i := range 1000 {
				send(fmt.Sprint("m", i), i%10 > 5)
				if i == 500 {
					for range 900 { // more than one frame takes
						send(strings.Repeat("missed", 20), true)
					}
				}
			}
			send("last", false)
			require.Equal(t, want, texts(t, st, len(want)))
			d.waitParked()
			require.Equal(t, before, d.askedFor())
		})
	}
}
