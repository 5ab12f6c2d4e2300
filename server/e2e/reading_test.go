package e2e

import (
	"slices"
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
	// told has alice send and a member read until all of some know how far. What was not told is not told later, as where
	// PostgreSQL or Redis took too long on a busy machine: then they are told of the next message.
	told := func(reader *rig.Device, all ...*rig.Device) {
		t.Helper()
		tellRead(t, alice, group, reader, func(seq int64) bool {
			return !slices.ContainsFunc(all, func(d *rig.Device) bool { return positions(d, group)[reader.User] != seq })
		})
	}
	told(bob, alice, carol)
	require.Empty(t, positions(bobToo, group), "the own devices have a state event")
	require.Empty(t, positions(eve, group))

	// Blocked, either way, nothing is told; the others still are.
	_, err := carol.Relations.BlockUser(ctx, &parleyv1.BlockUserRequest{UserId: "bob"})
	require.NoError(t, err)
	was := positions(carol, group)["bob"]
	told(bob, alice)
	require.Equal(t, was, positions(carol, group)["bob"])
	told(carol, alice)
	require.Empty(t, positions(bob, group)["carol"])

	// Who left is told nothing more, and nobody is told of them.
	_, err = carol.Sessions.LeaveSession(ctx, &parleyv1.LeaveSessionRequest{SessionId: group})
	require.NoError(t, err)
	last := positions(carol, group)
	told(bob, alice)
	require.Equal(t, last, positions(carol, group))
}

// tellRead has one send and another one read until it is known how far.
func tellRead(t *testing.T, sender *rig.Device, session string, reader *rig.Device, known func(seq int64) bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		seq := sender.Send(t.Context(), session, "hi").GetSeq()
		reader.WaitSeq(session, seq)
		_, err := reader.States.MarkRead(t.Context(), &parleyv1.MarkReadRequest{SessionId: session, UpToSeq: seq})
		require.NoError(t, err)
		for again := time.Now().Add(10 * time.Second); time.Now().Before(again); time.Sleep(10 * time.Millisecond) {
			if known(seq) {
				return
			}
		}
		require.True(t, time.Now().Before(end), "nobody is told how far %s has read", reader.User)
	}
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
	reader := s.Online("bob", "b2")
	tellRead(t, alice, small, reader, func(seq int64) bool { return positions(alice, small)["bob"] == seq })
	require.Empty(t, positions(alice, large))
}
