package e2e

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
	"github.com/parley-im/parley/server/reading"
)

// positions are the read positions that a device was told, the last of each reader.
func positions(d *rig.Device, session string) map[string]int64 {
	out := map[string]int64{}
	for _, e := range d.Events() {
		if p := e.GetReadPosition(); p.GetSessionId() == session {
			out[p.GetUserId()] = max(out[p.GetUserId()], p.GetReadSeq())
		}
	}
	return out
}

// Who reads is told to the other members live, on whatever node they are, and to nobody else.
func TestReadPositions(t *testing.T) {
	n := startNodes(t, 2)
	waitPeers(t, n)
	one, two := n[0], n[1]
	alice, bob := one.Online("alice", "a"), two.Online("bob", "b")
	bobToo := one.Online("bob", "b2")
	carol, eve := two.Online("carol", "c"), one.Online("eve", "e")
	ctx := t.Context()

	group := alice.Group(ctx, "bob", "carol")
	seq := alice.Send(ctx, group, "hi").GetSeq()
	for _, d := range []*rig.Device{bob, bobToo, carol} {
		d.WaitSeq(group, seq)
	}
	read := func(d *rig.Device, session string, seq int64) {
		t.Helper()
		_, err := d.States.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: session, UpToSeq: seq})
		require.NoError(t, err)
	}
	told := func(d *rig.Device, session, who string, seq int64) {
		t.Helper()
		require.Eventually(t, func() bool { return positions(d, session)[who] == seq }, patience, 10*time.Millisecond)
	}
	read(bob, group, seq)
	told(alice, group, "bob", seq)
	told(carol, group, "bob", seq)
	require.Empty(t, positions(bobToo, group), "the own devices have a state event")
	require.Empty(t, positions(eve, group))

	// Blocked, either way, nothing is told; the others still are.
	_, err := carol.Relations.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: "bob"})
	require.NoError(t, err)
	seq = alice.Send(ctx, group, "again").GetSeq()
	bob.WaitSeq(group, seq)
	read(bob, group, seq)
	told(alice, group, "bob", seq)
	carol.WaitSeq(group, seq)
	require.Less(t, positions(carol, group)["bob"], seq)
	read(carol, group, seq)
	told(alice, group, "carol", seq)
	require.Empty(t, positions(bob, group)["carol"])

	// Who left is told nothing more, and nobody is told of them.
	_, err = carol.Sessions.LeaveSession(ctx, &parleyv1.LeaveSessionRequest{SessionId: group})
	require.NoError(t, err)
	last := positions(carol, group)
	seq = alice.Send(ctx, group, "without carol").GetSeq()
	bob.WaitSeq(group, seq)
	read(bob, group, seq)
	told(alice, group, "bob", seq)
	require.Equal(t, last, positions(carol, group))
}

// A group of one member more than are told stays silent; ListReaders answers for it.
func TestReadPositionsOfLargeGroups(t *testing.T) {
	s := rig.Start(t)
	alice := s.Online("alice", "a")
	bob := s.Client("bob", "b")
	var members []string
	for i := range reading.MaxMembers - 2 {
		members = append(members, "member"+strconv.Itoa(i))
		s.Token(members[i], "d")
	}
	small := alice.Group(t.Context(), append(members, "bob")...)
	s.Token("one-more", "d")
	large := alice.Group(t.Context(), append(members, "bob", "one-more")...)
	for _, id := range []string{large, small} {
		seq := alice.Send(t.Context(), id, "hi").GetSeq()
		_, err := bob.States.MarkRead(t.Context(), &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: seq})
		require.NoError(t, err)
		if id == large {
			readers, err := bob.States.ListReaders(t.Context(), &parleyv1.ListReadersRequest{SessionId: id, Seq: seq})
			require.NoError(t, err)
			require.EqualValues(t, 1, readers.GetCount())
		}
	}
	require.Eventually(t, func() bool { return len(positions(alice, small)) == 1 }, patience, 10*time.Millisecond)
	require.Empty(t, positions(alice, large))
}
