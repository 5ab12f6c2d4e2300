package presence_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/presence"
)

// Who was offline before anybody watched them was not last seen when the watch began.
func TestSinceWhenSomebodyIsOffline(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.never["carol"] = true
	one, two := w.node("one"), w.node("two")
	seen := func(watcher, user string) string {
		w.rounds(t)
		one.mu.Lock()
		defer one.mu.Unlock()
		return one.seen[watcher+" "+user]
	}
	one.connect("alice/a1")
	w.clock.Advance(time.Hour)
	_, err := one.service.Watch(t.Context(), "alice", "a1", []string{"bob", "carol"})
	require.NoError(t, err)
	require.Equal(t, longAgo.UTC().Format(time.RFC3339), seen("alice/a1", "bob"))
	require.Empty(t, seen("alice/a1", "carol"), "never seen")

	two.connect("bob/b1")
	require.Empty(t, seen("alice/a1", "bob"), "online")
	w.clock.Advance(time.Hour)
	two.disconnect("bob/b1")
	w.clock.Advance(2 * presence.Grace)
	went := w.clock.Now().UTC().Format(time.RFC3339)
	require.Equal(t, went, seen("alice/a1", "bob"))

	// What a later watcher is given by the store may not be written yet; they are told what this node saw.
	w.clock.Advance(time.Hour)
	one.connect("dave/d1")
	_, err = one.service.Watch(t.Context(), "dave", "d1", []string{"bob"})
	require.NoError(t, err)
	require.Equal(t, went, seen("dave/d1", "bob"))
	require.Equal(t, went, seen("alice/a1", "bob"))
}

// Who goes between the answer to a watcher and the first look was seen just now, whatever the store knew.
func TestWhoGoesAsTheWatchBegins(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one := w.node("one")
	one.connect("alice/a1")
	one.connect("bob/b1")
	_, err := one.service.Watch(t.Context(), "alice", "a1", []string{"bob"})
	require.NoError(t, err)
	one.disconnect("bob/b1")
	w.clock.Advance(2 * presence.Grace)
	w.rounds(t)
	require.Equal(t, []string{"bob online", "bob offline"}, one.took("alice/a1"))
	one.mu.Lock()
	defer one.mu.Unlock()
	require.Equal(t, w.clock.Now().UTC().Format(time.RFC3339), one.seen["alice/a1 bob"])
}
