package e2e

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// startNodes runs n servers on one fresh database, which sign with the same key.
func startNodes(t *testing.T, n int, env ...string) (nodes []*rig.Server) {
	t.Helper()
	pg := testenv.PostgresURL(t)
	env = append([]string{"PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem")}, env...)
	for range n {
		nodes = append(nodes, rig.StartOn(t, pg, env...))
	}
	return nodes
}

// Whatever node a device is on, it sees the same: messages, states, memberships, signals, and the end of its device. Once
// with hints, and once without Redis, when only PostgreSQL joins the nodes.
func TestNodesShareEverything(t *testing.T) {
	for name, env := range map[string][]string{"hints": nil, "without Redis": {"PARLEY_REDIS_URL="}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := startNodes(t, 2, env...)
			one, two := nodes[0], nodes[1]
			if env == nil {
				require.Eventually(t, func() bool {
					return one.Metric("parley_hints_up") == 1 && one.Metric("parley_hints_peers") == 1 &&
						two.Metric("parley_hints_up") == 1 && two.Metric("parley_hints_peers") == 1
				}, patience, 20*time.Millisecond)
			}
			for _, u := range []string{"alice", "bob", "carol"} {
				one.Token(u, u+"1")
			}
			alice1, alice2 := one.Online("alice", "alice1"), two.Online("alice", "alice2")
			bob, carol := two.Online("bob", "bob1"), two.Online("carol", "carol1")

			// A direct session that begins, and messages both ways.
			id := alice1.Send(t.Context(), "bob", "hi").GetSessionId()
			bob.WaitSeq(id, 1)
			sent := bob.Send(t.Context(), id, "hello")
			bob.Sent(id, sent.GetSeq())
			alice1.WaitSeq(id, 2)
			alice2.WaitSeq(id, 2)

			// A group made on one node, somebody added on the other.
			group := alice1.Group(t.Context(), "bob")
			bob.WaitSeq(group, 1)
			_, err := alice2.Sessions.AddMembers(t.Context(), &parleyv1.AddMembersRequest{SessionId: group, UserIds: []string{"carol"}})
			require.NoError(t, err)
			carol.WaitSeq(group, 2)
			var all sync.WaitGroup
			const each = 100
			for _, d := range []*rig.Device{alice1, bob, carol} {
				all.Go(func() {
					for n := range each {
						d.Sent(group, d.Send(t.Context(), group, fmt.Sprint(n)).GetSeq())
					}
				})
			}
			all.Wait()
			for _, d := range []*rig.Device{alice1, alice2, bob, carol} {
				d.WaitSeq(group, 2+3*each)
			}

			// Read on one node is read on the other.
			_, err = alice1.States.MarkRead(t.Context(), &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: 2})
			require.NoError(t, err)
			alice2.WaitEvent("read on the other node", func(ev *parleyv1.Event) bool {
				return ev.GetState().GetSessionId() == id && ev.GetState().GetReadSeq() == 2
			})
			// The own settings too.
			pinned := true
			_, err = alice1.Sessions.UpdateMembership(t.Context(), &parleyv1.UpdateMembershipRequest{SessionId: id, IsPinned: &pinned})
			require.NoError(t, err)
			alice2.WaitEvent("pinned on the other node", func(ev *parleyv1.Event) bool {
				s := ev.GetSession().GetSession()
				return s.GetSessionId() == id && s.GetMembership().GetIsPinned()
			})
			if env == nil { // signals have no other way than hints
				require.Eventually(t, func() bool {
					_, err = alice1.Sync.SendSignal(t.Context(), &parleyv1.SendSignalRequest{SessionId: id,
						Signal: &parleyv1.Signal{Kind: &parleyv1.Signal_Typing{Typing: &parleyv1.Typing{}}}})
					require.NoError(t, err)
					for _, ev := range bob.Events() {
						if ev.GetSignal().GetSenderId() == "alice" {
							return true
						}
					}
					return false
				}, patience, 50*time.Millisecond)
			}
			// A device that is revoked on one node loses its stream on the other.
			_, err = alice1.Devices.RevokeDevice(t.Context(), &parleyv1.RevokeDeviceRequest{DeviceId: "alice2"})
			require.NoError(t, err)
			require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(alice2.Ended()))
			requireNoProblems(t, alice1, alice2, bob, carol)
		})
	}
}

// Killing a node under load loses nothing and repeats nothing: its devices go on at the other one.
func TestNodeKilledUnderLoad(t *testing.T) {
	nodes := startNodes(t, 2)
	one, two := nodes[0], nodes[1]
	one.Token("alice", "a1")
	one.Token("bob", "b1")
	alice, bob := one.Online("alice", "a1"), two.Online("bob", "b1")
	id := alice.Send(t.Context(), "bob", "first").GetSessionId()
	bob.WaitSeq(id, 1)
	acked := int64(1)
	for n := range 300 {
		res, err := alice.Messages.SendMessage(t.Context(), rig.To(id, fmt.Sprint(n)))
		if err != nil {
			break
		}
		acked = res.GetSeq()
		if n == 200 {
			one.Kill()
		}
	}
	require.Greater(t, acked, int64(200))
	bob.WaitSeq(id, acked) // also the last ones, whose node may have died before it told of them
	requireNoProblems(t, bob)
	one.Restart()
}
