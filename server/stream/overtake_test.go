package stream_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/stream"
)

// While the writer reads memberships again, entries queue, and then the track falls behind. What is pulled must not
// overtake what is queued, and what is queued must not be sent again after it.
func TestAPullDoesNotOvertakeTheQueue(t *testing.T) {
	for name, caught := range map[string]bool{"after it has caught up": true, "while another session is pulled": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, stream.Config{})
			id, other := group(w, "alice", "bob"), group(w, "alice", "bob")
			d := w.subscribe(t, "bob", "b1", stream.Request{})
			d.caughtUp()

			reading, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			w.rereads = func() {
				once.Do(func() {
					close(reading)
					<-release
				})
			}
			missed := func() int64 {
				w.silent = true
				defer func() { w.silent = false }()
				return w.send(id, "alice", "a1", "missed")
			}
			if !caught {
				w.silent = true
				w.hub.Advance(other, w.send(other, "alice", "a1", "missed"))
				w.silent = false
			}
			w.hub.Joined("bob", id)
			<-reading
			for range 3 {
				w.send(id, "alice", "a1", "queued")
			}
			missed()
			w.hub.Advance(id, missed())
			close(release)
			require.Equal(t, seqs(2, 7), d.until(id, 7))
			last := w.send(id, "alice", "a1", "live again")
			require.Equal(t, seqs(2, last), d.until(id, last))
		})
	}
}

// The list of a user's sessions comes from memory, which may be a moment behind what PostgreSQL says of the positions.
func TestACursorCountsInASessionThatTheListDoesNotHaveYet(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	for range 1500 { // several pages
		w.send(id, "alice", "a1", "hi")
	}
	w.synced["bob/b1"] = true
	w.unlisted = true
	d := w.subscribe(t, "bob", "b1", stream.Request{Cursors: []stream.Cursor{{SessionID: id, Seq: 100}}})
	evs := d.caughtUp()
	require.Equal(t, seqs(101, 1502), shown(evs, id), "nothing that it has, and all of it before CaughtUp")
	w.send(id, "alice", "a1", "live")
	require.Equal(t, seqs(101, 1503), d.until(id, 1503))
}
