package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/e2e/rig"
)

// Who is online is told across nodes, to those who may know, and is right again soon after a node has died.
func TestPresence(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 2)
	one, two := nodes[0], nodes[1]
	require.Eventually(t, func() bool {
		return one.Metric("parley_hints_peers") == 1 && two.Metric("parley_hints_peers") == 1
	}, patience, 20*time.Millisecond)
	for _, u := range []string{"alice", "bob", "eve"} {
		one.Token(u, u+"1")
	}
	alice, eve := one.Online("alice", "alice1"), one.Online("eve", "eve1")
	id := alice.Send(t.Context(), "bob", "hi").GetSessionId()
	watch := func(d *rig.Device, users ...string) []*parleyv1.Presence {
		res, err := presenceClient(one, d).WatchPresence(t.Context(), &parleyv1.WatchPresenceRequest{UserIds: users})
		require.NoError(t, err)
		return res.GetPresences()
	}
	require.Len(t, watch(alice, "bob", "nobody", "eve"), 1, "strangers and those who do not exist are left out alike")
	require.Empty(t, watch(eve, "bob"))

	var seen int
	is := func(d *rig.Device, online bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			events := d.Events()
			for i := len(events) - 1; i >= seen; i-- {
				if p := events[i].GetPresence().GetPresence(); p.GetUserId() == "bob" {
					if p.GetIsOnline() == online {
						seen = i + 1
						return true
					}
					return false
				}
			}
			return false
		}, patience, 20*time.Millisecond, "bob online: %v", online)
	}
	bob := two.Online("bob", "bob1")
	bob.WaitSeq(id, 1)
	is(alice, true)
	began := time.Now()
	two.Kill()
	is(alice, false)
	t.Logf("a dead node's device was told to be offline after %s", time.Since(began).Round(time.Millisecond))
	two.Restart()
	is(alice, true) // bob's device has come back by itself

	_, err := bob.Relations.BlockUser(t.Context(), &parleyv1.BlockUserRequest{UserId: "alice"})
	require.NoError(t, err)
	is(alice, false)
	res, err := presenceClient(one, alice).GetPresence(t.Context(), &parleyv1.GetPresenceRequest{UserIds: []string{"bob"}})
	require.NoError(t, err)
	require.Empty(t, res.GetPresences())
	for _, ev := range eve.Events() {
		require.Nil(t, ev.GetPresence())
	}
}

func presenceClient(s *rig.Server, d *rig.Device) parleyv1connect.PresenceServiceClient {
	return parleyv1connect.NewPresenceServiceClient(d.HTTP, s.URL, rig.Bearer(d.Token))
}
