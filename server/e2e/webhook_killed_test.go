package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// The receiver is killed and comes back, twice; the server is killed in between. Every committed message is told, under one
// id, in the order of its session.
func TestWebhookReceiverAndServerKilled(t *testing.T) {
	t.Parallel()
	s := rig.Start(t, hookEnv...)
	alice := s.Client("alice", "a1")
	for _, u := range []string{"bob", "carol", "dave"} {
		s.Token(u, "d1")
	}
	r := newReceiver(t)
	createHook(t, s, &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookCreated}})
	// What the receiver answers with an error has been read nonetheless: its id must come again.
	var mu sync.Mutex
	refused, n := map[string]string{}, 0
	r.answer = func(x told) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n%17 == 3 {
			refused[x.key()] = x.id
			return http.StatusServiceUnavailable, ""
		}
		return http.StatusNoContent, ""
	}
	want := map[string]bool{}
	send := func(count int) {
		for i := range count {
			for _, u := range []string{"bob", "carol", "dave"} {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				res, err := alice.Messages.SendMessage(ctx, rig.To(u, fmt.Sprint("m", i)))
				cancel()
				require.NoError(t, err)
				want[fmt.Sprintf("message.created %s %d", res.GetSessionId(), res.GetSeq())] = true
			}
		}
	}
	send(10)
	r.kill()
	send(10)
	s.Kill() // right after commits that were perhaps not even read
	s.Restart()
	send(5)
	r.start()
	send(5)
	r.until("the first come again", func(all []told) bool { return len(all) > 20 })
	r.kill()
	send(5)
	s.Kill()
	r.start()
	s.Restart()
	send(2)

	all := r.until("everything", func(all []told) bool {
		got := map[string]bool{}
		for _, x := range all {
			got[x.key()] = true
		}
		return len(got) >= len(want)
	})
	ids, keys, last, again := map[string]string{}, map[string]string{}, map[string]int64{}, 0
	for _, x := range all {
		require.True(t, want[x.key()], "nobody sent %s", x.key())
		if id, seen := ids[x.key()]; seen {
			require.Equal(t, id, x.id, "an event has one id")
			again++
			continue
		}
		if key, seen := keys[x.id]; seen {
			require.Equal(t, key, x.key(), "an id has one event")
		}
		ids[x.key()], keys[x.id] = x.id, x.key()
		m := x.payload.GetData().GetMessage()
		require.Equal(t, last[m.GetSessionId()]+1, m.GetSeq(), "order of the session")
		last[m.GetSessionId()] = m.GetSeq()
	}
	require.Len(t, ids, len(want))
	mu.Lock()
	defer mu.Unlock()
	require.NotEmpty(t, refused)
	for key, id := range refused {
		require.Equal(t, id, ids[key], "the id of the first attempt")
	}
	t.Logf("%d events, %d told twice, %d refused at first", len(want), again, len(refused))
}
