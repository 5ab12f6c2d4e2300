package stream_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
)

// A node that missed what happened asks its devices to come back: those that listen and one that is about to begin. They are
// then told all of it, and those that came since are left alone.
func TestDevicesComeBackToANodeThatMissedSomething(t *testing.T) {
	w := newWorld(t, stream.Config{})
	id := group(w, "alice", "bob")
	listens := w.subscribe(t, "bob", "listens", stream.Request{})
	listens.caughtUp()
	asked, answer := make(chan struct{}), make(chan struct{})
	w.starts = func(context.Context, []stream.Ask) error {
		close(asked)
		<-answer
		return nil
	}
	begins := w.subscribe(t, "bob", "begins", stream.Request{})
	<-asked
	w.silent = true
	last := w.send(id, "alice", "a1", "missed")
	w.silent = false
	w.read[id] = last

	w.mgr.Missed()
	close(answer)
	for _, d := range []*device{listens, begins} {
		var r *refusal.Error
		require.ErrorAs(t, <-d.done, &r)
		require.Equal(t, refusal.Unavailable, r.Reason)
		after, err := strconv.Atoi(r.Meta["retry_after_ms"])
		require.NoError(t, err)
		require.Positive(t, after)
	}
	w.starts = nil
	back := w.subscribe(t, "bob", "listens", stream.Request{Cursors: []stream.Cursor{{SessionID: id, Seq: last - 1}}})
	evs := back.caughtUp()
	require.Equal(t, seqs(last, last), shown(evs, id))
	for _, ev := range evs {
		if m := ev.GetMessage(); m != nil {
			require.True(t, m.GetState().GetIsRead())
		}
	}
	last = w.send(id, "alice", "a1", "live")
	require.Equal(t, seqs(last-1, last), back.until(id, last))
}
