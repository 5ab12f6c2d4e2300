package stream

import (
	"testing"

	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func stateEvent(readSeq, unread int64, readSeqs ...int64) *parleyv1.Event {
	return &parleyv1.Event{Kind: &parleyv1.Event_State{State: &parleyv1.StateEvent{
		SessionId: "s", ReadSeq: readSeq, Unread: unread, ReadSeqs: readSeqs}}}
}

// Two devices' changes may be told in another order than they were made in; what a third one is shown never moves back.
func TestStatesNeverMoveBack(t *testing.T) {
	t.Run("sent before", func(t *testing.T) {
		s := &Stream{}
		require.Equal(t, int64(7), s.inOrder(stateEvent(7, 1)).GetState().GetReadSeq())
		late := s.inOrder(stateEvent(5, 3, 9)).GetState()
		require.Equal(t, int64(7), late.GetReadSeq())
		require.Equal(t, int64(1), late.GetUnread())
		require.Equal(t, []int64{9}, late.GetReadSeqs())
		require.Equal(t, int64(8), s.inOrder(stateEvent(8, 0)).GetState().GetReadSeq())
	})
	t.Run("waiting", func(t *testing.T) {
		var p pending
		p.add(stateEvent(7, 1))
		p.add(stateEvent(5, 3, 9))
		events := p.take()
		require.Len(t, events, 1)
		require.Equal(t, int64(7), events[0].GetState().GetReadSeq())
		require.Equal(t, int64(1), events[0].GetState().GetUnread())
		require.Equal(t, []int64{9}, events[0].GetState().GetReadSeqs())
	})
}
