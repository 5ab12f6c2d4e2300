package stream_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/stream"
)

func (w *world) set(id uuid.UUID, seq int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read[id] = seq
}

// mark moves a watermark as another device, or this one, would: committed first, told then.
func (w *world) mark(id uuid.UUID, user, byDevice string, seq int64) {
	w.set(id, seq)
	w.hub.NotifyUser(user, byDevice, &parleyv1.Event{Kind: &parleyv1.Event_State{State: &parleyv1.StateEvent{
		SessionId: id.String(), ReadSeq: seq}}})
}

// The states read at opening serve the whole backlog, and nothing asks for them again.
func TestBacklogIsServedFromTheSnapshot(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	for range 2000 { // several pages
		w.send(id, "alice", "a1", "hello")
	}
	w.synced["bob/b1"] = true
	w.read[id] = 1000
	evs := w.subscribe(t, "bob", "b1", stream.Request{}).caughtUp()
	require.Empty(t, w.asked)
	require.Len(t, shown(evs, id), 2001)
	for _, ev := range evs {
		if m := ev.GetMessage(); m != nil {
			require.Equal(t, m.GetSeq() <= 1000, m.GetState().GetIsRead(), m.GetSeq())
		}
	}
}

// Whenever a state changes while a device comes back, by whom and wherever: each entry that is written from then on comes
// with the new state, and the event about the change comes behind those that were written before.
func TestStateThatChangesWhileADeviceComesBack(t *testing.T) {
	const last = 2002
	changes := map[string]func(w *world, id uuid.UUID){
		"by another device":    func(w *world, id uuid.UUID) { w.mark(id, "bob", "b2", last) },
		"by the device itself": func(w *world, id uuid.UUID) { w.mark(id, "bob", "b1", last) },
		"unheard, and the feed has lost its place": func(w *world, id uuid.UUID) {
			w.set(id, last)
			w.mgr.ReloadAll()
		},
	}
	for name, change := range changes {
		for page := range 4 { // 0: while the positions are being read
			t.Run(fmt.Sprintf("%s, at page %d", name, page), func(t *testing.T) {
				w := newWorld(t, stream.Config{})
				id := group(w, "alice", "bob")
				for range 2000 {
					w.send(id, "alice", "a1", "hello")
				}
				w.synced["bob/b1"] = true
				w.starts = func(context.Context, []stream.Ask) error {
					if page == 0 {
						change(w, id)
					}
					return nil
				}
				changedAt := int64(0)
				w.pages = func(n int, from int64) {
					if n == page {
						change(w, id)
						changedAt = from
					}
				}
				d := w.subscribe(t, "bob", "b1", stream.Request{})
				d.caughtUp()
				byOther := name == "by another device"
				evs := d.wait("the change", func(evs []*parleyv1.Event) bool {
					return !byOther || slices.ContainsFunc(evs, func(ev *parleyv1.Event) bool { return ev.GetState() != nil })
				})
				written := int64(0) // the last entry before the event
				for _, ev := range evs {
					if m := ev.GetMessage(); m != nil {
						if m.GetSeq() > max(2, changedAt) { // member changes have nothing to be read
							require.True(t, m.GetState().GetIsRead(), "%d, behind the change: pages before it are read ahead", m.GetSeq())
						}
						written = m.GetSeq()
					}
					if ev.GetState() != nil {
						require.GreaterOrEqual(t, written, changedAt)
					}
				}
				require.Equal(t, seqs(2, last), shown(evs, id))
			})
		}
	}
}

// A session with more exceptions than a snapshot holds is asked for page by page.
func TestSessionWithoutSnapshotIsAskedFor(t *testing.T) {
	w := newWorld(t, stream.Config{})
	w.noStates = true
	id := group(w, "alice", "bob")
	w.send(id, "alice", "a1", "hello")
	w.synced["bob/b1"] = true
	w.read[id] = 3
	evs := w.subscribe(t, "bob", "b1", stream.Request{}).caughtUp()
	require.Len(t, w.asked, 1)
	for _, ev := range evs {
		if m := ev.GetMessage(); m != nil {
			require.True(t, m.GetState().GetIsRead())
		}
	}
	page, err := w.mgr.Pull(t.Context(), stream.Caller{UserID: "bob", DeviceID: "b1"}, stream.Mark{}, 10)
	require.NoError(t, err)
	require.Len(t, page.Entries, 2)
	require.True(t, page.StateOf(page.Entries[0]).GetIsRead())
	require.Len(t, w.asked, 2)
}
