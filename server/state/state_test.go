package state_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/parley-im/parley/server/state"
)

// Of must say what the words say, whatever other sessions' exceptions lie around its own.
func TestOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sessions := []uuid.UUID{{1}, {2}, {2, 1}, {3}}
		exceptions := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) state.Exception {
			return state.Exception{
				SessionID: rapid.SampledFrom(sessions).Draw(t, "session"),
				Seq:       rapid.Int64Range(1, 20).Draw(t, "seq"),
				Read:      rapid.Bool().Draw(t, "read"),
				Deleted:   rapid.Bool().Draw(t, "deleted"),
			}
		}), 0, 30, func(e state.Exception) [2]any { return [2]any{e.SessionID, e.Seq} }).Draw(t, "exceptions")
		slices.SortFunc(exceptions, func(a, b state.Exception) int {
			if c := bytes.Compare(a.SessionID[:], b.SessionID[:]); c != 0 {
				return c
			}
			return int(a.Seq - b.Seq)
		})
		v := state.View{
			SessionID:    rapid.SampledFrom(sessions).Draw(t, "viewed"),
			ReadSeq:      rapid.Int64Range(0, 20).Draw(t, "read_seq"),
			DeletedToSeq: rapid.Int64Range(0, 20).Draw(t, "deleted_to_seq"),
		}
		of := state.Of(v, exceptions)
		for seq := int64(1); seq <= 22; seq++ {
			own, countable := rapid.Bool().Draw(t, "own"), rapid.Bool().Draw(t, "countable")
			wantDeleted := seq <= v.DeletedToSeq
			wantRead := own || !countable || seq <= v.ReadSeq
			for _, e := range exceptions {
				if e.SessionID == v.SessionID && e.Seq == seq {
					wantDeleted = wantDeleted || e.Deleted
					wantRead = wantRead || e.Read
				}
			}
			read, deleted := of(seq, own, countable)
			require.Equal(t, wantDeleted, deleted)
			require.Equal(t, wantRead || wantDeleted, read)
		}
	})
}

func TestEvent(t *testing.T) {
	id := uuid.New()
	v := state.View{SessionID: id, ReadSeq: 10, DeletedToSeq: 3, MarkedUnread: true, Unread: 7}
	ev := state.Event(v, state.Changes{Read: []int64{9, 10, 12}, Deleted: []int64{5, 14}}).GetState()
	require.Equal(t, id.String(), ev.GetSessionId())
	require.EqualValues(t, 10, ev.GetReadSeq())
	require.EqualValues(t, 3, ev.GetDeletedToSeq())
	require.EqualValues(t, 7, ev.GetUnread())
	require.True(t, ev.GetMarkedUnread())
	require.Equal(t, []int64{12}, ev.GetReadSeqs())
	require.Equal(t, []int64{5, 14}, ev.GetDeletedSeqs())
	require.False(t, ev.GetReload())

	require.True(t, state.Event(v, state.Changes{Unknown: true}).GetState().GetReload())

	for n, reload := range map[int]bool{state.MaxListed: false, state.MaxListed + 1: true} {
		many := make([]int64, n)
		for i := range many {
			many[i] = int64(100 + i)
		}
		for _, ev := range []state.Changes{{Read: many}, {Deleted: many}} {
			got := state.Event(v, ev).GetState()
			require.Equal(t, reload, got.GetReload())
			require.Len(t, append(got.GetReadSeqs(), got.GetDeletedSeqs()...), state.MaxListed)
		}
	}
}
