package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// A5 over nodes: the same send several times at once on different nodes, with answers dropped, and again after all nodes
// have died: one entry per id, and every answer the same.
func TestSendIsIdempotentOverNodes(t *testing.T) {
	sends := size(30, 200, scaledTimes(2000))
	var calls, dropped int
	report(t, "A5", fmt.Sprintf("%d sends, each 2 to 5 times at once over three nodes, a third of the answers dropped, all again after kill -9 of all nodes", sends),
		"one row per id, all answers the same, another body ALREADY_EXISTS", func() string {
			return fmt.Sprintf("%d calls, %d answers dropped", calls, dropped)
		})
	nodes := startNodes(t, 3)
	token := nodes[0].Token("alice", "a1")
	nodes[0].Token("bob", "b1")
	var at []*rig.Client
	for _, s := range nodes {
		at = append(at, s.ClientWith("alice", "a1", token))
	}
	group := at[0].Group(t.Context(), "bob")
	reqs, first := make([]*parleyv1.SendMessageRequest, sends), make([]*parleyv1.SendMessageResponse, sends)
	var mu sync.Mutex
	took := func(n int, res *parleyv1.SendMessageResponse) {
		mu.Lock()
		defer mu.Unlock()
		if first[n] != nil && !proto.Equal(first[n], res) {
			t.Errorf("two answers: %v and %v", first[n], res)
		}
		first[n] = res
	}
	for from := 0; from < sends; from += 10 { // ten ids at once
		var wg sync.WaitGroup
		for n := from; n < min(from+10, sends); n++ {
			reqs[n] = rig.To(group, fmt.Sprint(n))
			if n%3 == 0 {
				reqs[n] = rig.To("bob", fmt.Sprint(n))
			}
			for k := range 2 + n%4 {
				wg.Go(func() {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if (n+k)%3 == 2 {
						time.AfterFunc(time.Duration(n%5)*time.Millisecond, cancel)
					}
					res, err := at[(n+k)%3].Messages.SendMessage(ctx, reqs[n])
					if err == nil {
						took(n, res)
					} else if connect.CodeOf(err) != connect.CodeCanceled {
						t.Errorf("send %d: %v", n, err)
					}
					mu.Lock()
					defer mu.Unlock()
					calls++
					if err != nil {
						dropped++
					}
				})
			}
		}
		wg.Wait()
	}
	require.Positive(t, dropped)
	for _, s := range nodes {
		s.Kill()
	}
	for _, s := range nodes {
		s.Restart()
	}
	entries := map[string]int64{}
	for n, req := range reqs {
		res, err := at[n%3].Messages.SendMessage(t.Context(), req)
		require.NoError(t, err)
		took(n, res)
		entries[res.GetSessionId()] = max(entries[res.GetSessionId()], res.GetSeq())
		other := proto.CloneOf(req)
		other.GetContent().GetText().Body += "!"
		_, err = at[(n+1)%3].Messages.SendMessage(t.Context(), other)
		require.Equal(t, connect.CodeAlreadyExists, connect.CodeOf(err))
	}
	total := int64(0)
	for id := range entries {
		res, err := at[0].Sessions.GetSession(t.Context(), &parleyv1.GetSessionRequest{SessionId: id})
		require.NoError(t, err)
		total += res.GetSession().GetHeadSeq()
	}
	require.EqualValues(t, sends+1, total, "one entry per id, and the group's first")
}
