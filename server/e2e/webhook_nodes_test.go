package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// Two nodes share the work; each in turn is killed in the middle of it, the one that reads the log and the one that does not,
// and the other takes over what it had begun: every committed message is told, under one id, in its session's order.
func TestWebhookNodeDies(t *testing.T) {
	if testing.Short() {
		t.Skip("a dead node's lanes are taken over after their time, which is more than a minute")
	}
	t.Parallel()
	nodes := startNodes(t, 2, hookEnv...)
	users := []string{"bob", "carol", "dave", "erin", "frank", "grace"}
	for _, u := range users {
		nodes[0].Token(u, "d1")
	}
	token := nodes[0].Token("alice", "a1")
	r := newReceiver(t)
	r.answer = func(told) (int, string) {
		time.Sleep(5 * time.Millisecond) // so that lanes are under way when a node dies
		return 204, ""
	}
	createHook(t, nodes[0], &parleyv1.CreateWebhookRequest{Url: r.url(), EventTypes: []parleyv1.WebhookEventType{hookCreated}})

	var mu sync.Mutex
	want := map[string]bool{}
	// send has all users written to over the node that lives.
	send := func(by *rig.Server, count int) {
		alice := by.ClientWith("alice", "a1", token)
		var all sync.WaitGroup
		for _, u := range users {
			all.Go(func() {
				for i := range count {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					res, err := alice.Messages.SendMessage(ctx, rig.To(u, fmt.Sprint("m", i)))
					cancel()
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					want[fmt.Sprintf("message.created %s %d", res.GetSessionId(), res.GetSeq())] = true
					mu.Unlock()
				}
			})
		}
		all.Wait()
	}
	for turn := range 2 {
		dies, lives := nodes[turn], nodes[1-turn]
		before := len(r.all())
		send(lives, 20)
		r.until("work is under way", func(all []told) bool { return len(all) > before+20 })
		dies.Kill()
		send(lives, 20)
		all := r.until("everything", func(all []told) bool {
			got := map[string]bool{}
			for _, x := range all {
				got[x.key()] = true
			}
			return len(got) >= len(want)
		})
		require.GreaterOrEqual(t, len(all), len(want))
		require.Positive(t, lives.Metric("parley_webhook_queued_total"), "it reads the log")
		require.Positive(t, lives.MetricWith("parley_webhook_attempts_total", `result="ok"`))
		require.Positive(t, lives.Metric("parley_webhook_attempt_seconds_count"))
		require.Zero(t, lives.Metric("parley_webhook_given_up_total"))
		require.Zero(t, lives.Metric("parley_webhook_gaps_total"))
		require.Eventually(t, func() bool { return lives.Metric("parley_webhook_reader_age_seconds") < 60 }, patience, 50*time.Millisecond)
		if turn == 0 {
			dies.Restart()
		}
	}
	ids, last, again := map[string]string{}, map[string]int64{}, 0
	for _, x := range r.all() {
		require.True(t, want[x.key()], "nobody sent %s", x.key())
		if id, seen := ids[x.key()]; seen {
			require.Equal(t, id, x.id, "an event has one id")
			again++
			continue
		}
		ids[x.key()] = x.id
		m := x.payload.GetData().GetMessage()
		require.Equal(t, last[m.GetSessionId()]+1, m.GetSeq(), "order of the session")
		last[m.GetSessionId()] = m.GetSeq()
	}
	require.Len(t, ids, len(want))
	t.Logf("%d events, %d told twice", len(want), again)
}
