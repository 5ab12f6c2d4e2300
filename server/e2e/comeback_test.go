package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// Who is added again while their device is online is shown what they have not acknowledged, and told what they cannot see:
// also where the acknowledgement is so young that it is not stored yet.
func TestAckCountsBeforeItIsStored(t *testing.T) {
	s := rig.Start(t)
	alice, bob := s.Client("alice", "a"), s.Client("bob", "b")
	id := alice.Group(t.Context(), "bob")
	stream, err := bob.Sync.Subscribe(t.Context(), &parleyv1.SubscribeRequest{})
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	// got reads until an entry with a seq, or CaughtUp for 0, and returns the seqs shown and the ranges left out.
	got := func(until int64) (shown []int64, skipped [][2]int64) {
		for stream.Receive() {
			for _, ev := range stream.Msg().GetEvents() {
				if k := ev.GetSkipped(); k != nil {
					skipped = append(skipped, [2]int64{k.GetFromSeq(), k.GetToSeq()})
				}
				if m := ev.GetMessage(); m != nil {
					shown = append(shown, m.GetSeq())
				}
				if until == 0 && ev.GetCaughtUp() != nil {
					return shown, skipped
				}
			}
			if until > 0 && len(shown) > 0 && shown[len(shown)-1] >= until {
				return shown, skipped
			}
		}
		t.Fatalf("the stream ended: %v", stream.Err())
		return nil, nil
	}
	alice.Send(t.Context(), id, "hello")
	_, err = alice.Sessions.RemoveMember(t.Context(), &parleyv1.RemoveMemberRequest{SessionId: id, UserId: "bob"})
	require.NoError(t, err)
	shown, skipped := got(3)
	require.Equal(t, upTo(3), shown)
	require.Empty(t, skipped)
	_, err = bob.Sync.Ack(t.Context(), &parleyv1.AckRequest{Acks: []*parleyv1.Cursor{{SessionId: id, Seq: 3}}})
	require.NoError(t, err)
	again, err := bob.Sync.Subscribe(t.Context(), &parleyv1.SubscribeRequest{}) // has no part in the session yet
	require.NoError(t, err)
	defer func() { _ = again.Close() }()
	stream = again
	shown, skipped = got(0)
	require.Empty(t, shown)
	require.Empty(t, skipped)
	alice.Send(t.Context(), id, "not for bob")
	_, err = alice.Sessions.AddMembers(t.Context(), &parleyv1.AddMembersRequest{SessionId: id, UserIds: []string{"bob"}})
	require.NoError(t, err)
	shown, skipped = got(5)
	require.Equal(t, []int64{5}, shown, "nothing twice")
	require.Equal(t, [][2]int64{{4, 4}}, skipped)
}
