package relation_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/relation"
)

// Many goroutines do everything to few users at once. At every moment, and in the end, friendship is mutual, nothing
// stands beside a block, and no two requests stand against each other; and no call fails but by a rule.
func TestRaces(t *testing.T) {
	users := []string{"alice", "bob", "carol", "dave"}
	w := newWorld(t, users...)
	steps := 120
	if testing.Short() {
		steps = 30
	}
	var writers sync.WaitGroup
	for range 16 {
		writers.Go(func() {
			for range steps {
				if err := w.anything(users); err != nil {
					if _, rule := refusal.Of(err); !rule || t.Context().Err() != nil {
						t.Errorf("%v", err)
						return
					}
				}
			}
		})
	}
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			if err := consistent(w.rows()); err != "" {
				t.Error(err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	writers.Wait()
	close(done)
	watcher.Wait()

	rows := w.rows()
	require.Empty(t, consistent(rows))
	// Lists say what the rows say, from both sides.
	for _, user := range users {
		for peer, kind := range w.list(user, relation.None, 2) {
			require.Equal(t, relation.Pair{Own: rows[user+">"+peer], Other: rows[peer+">"+user]}.Kind(), kind)
		}
	}
}

// anything does something as somebody to somebody else.
func (w *world) anything(users []string) error {
	i := rand.IntN(len(users))
	by, peer := on(users[i]), users[(i+1+rand.IntN(len(users)-1))%len(users)]
	ctx := w.t.Context()
	switch rand.IntN(10) {
	case 0, 1, 2:
		_, err := w.Request(ctx, by, peer)
		return err
	case 3, 4, 5:
		_, err := w.Respond(ctx, by, peer, rand.IntN(4) > 0)
		return err
	case 6:
		return w.Remove(ctx, by, peer)
	case 7:
		return w.Block(ctx, by, peer)
	default:
		return w.Unblock(ctx, by, peer)
	}
}

// consistent returns what is wrong with the rows of one moment, or nothing.
func consistent(rows map[string]relation.Mark) string {
	for link, own := range rows {
		user, peer, _ := strings.Cut(link, ">")
		other := rows[peer+">"+user]
		switch {
		case own == relation.MarkFriend && other != relation.MarkFriend:
			return link + ": a friendship of one side"
		case own == relation.MarkRequested && other != relation.Unmarked:
			return link + ": a request beside something else"
		}
	}
	return ""
}

// Callers who ask one popular user at the same time do not queue for each other: each holds what the next one needs.
func TestManyAskOne(t *testing.T) {
	w := newWorld(t, "star", "alice", "bob")
	tx, err := w.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM app_user WHERE user_id = 'star' FOR SHARE`) // as one more caller would
	require.NoError(t, err)
	for _, user := range []string{"alice", "bob"} {
		_, err := w.Request(t.Context(), on(user), "star")
		require.NoError(t, err)
	}
	require.NoError(t, tx.Rollback(t.Context()))
	require.Len(t, w.list("star", relation.RequestReceived, 10), 2)
}
