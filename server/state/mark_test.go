package state_test

import (
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/state"
)

func TestMarkReadTo(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 5) // 2 to 6

	v, err := w.states.MarkReadTo(w.ctx, on("bob"), id, 4)
	require.NoError(t, err)
	require.Equal(t, state.View{SessionID: id, Active: true, ReadSeq: 4, Unread: 2}, v)
	require.Equal(t, v, w.view(t, "bob", id))

	got := w.notified.take()
	require.Len(t, got, 1)
	require.Equal(t, "bob", got[0].user)
	require.Equal(t, "bob-phone", got[0].except)
	require.EqualValues(t, 4, got[0].event.GetReadSeq())
	require.EqualValues(t, 2, got[0].event.GetUnread())
	require.Equal(t, got[0].handled, w.number(t, `SELECT id FROM commit_log WHERE state_users = '{bob}'
		AND state_sessions = ARRAY[$1::uuid] AND session_ids = '{}'`, id))

	for _, stale := range []int64{1, 3, 4} {
		v, err = w.states.MarkReadTo(w.ctx, on("bob"), id, stale)
		require.NoError(t, err)
		require.EqualValues(t, 4, v.ReadSeq)
		require.EqualValues(t, 2, v.Unread)
	}
	require.Empty(t, w.notified.take(), "nothing changed")
	require.EqualValues(t, 1, w.notes(t, "bob", id))
	require.Equal(t, []read{{"bob", id, 4}}, w.notified.reads, "others are told once")
}

func TestMarksAreRefusedOutsideWhatCanBeSeen(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann")
	w.texts(t, id, "ann", 3)
	joined := w.join(t, id, "bob", false) // 5
	w.texts(t, id, "ann", 2)
	left := w.leave(t, id, "bob") // 8
	w.texts(t, id, "ann", 2)
	again := w.join(t, id, "bob", false) // 11
	w.texts(t, id, "ann", 2)             // head 13
	w.users(t, "eve")

	refused := func(user string, session uuid.UUID, seq int64, want refusal.Reason, head int64) {
		t.Helper()
		before := w.notes(t, user, session)
		_, e1 := w.states.MarkReadTo(w.ctx, on(user), session, seq)
		_, e2 := w.states.MarkRead(w.ctx, on(user), session, []int64{seq})
		_, e3 := w.states.DeleteTo(w.ctx, on(user), session, seq)
		_, e4 := w.states.Delete(w.ctx, on(user), session, []int64{seq})
		for _, err := range []error{e1, e2, e3, e4} {
			require.ErrorIs(t, err, refusal.New(want, ""))
			var r *refusal.Error
			require.ErrorAs(t, err, &r)
			if head > 0 {
				require.Equal(t, strconv.FormatInt(head, 10), r.Meta["head"])
			}
		}
		require.Equal(t, before, w.notes(t, user, session))
		require.Empty(t, w.notified.take())
	}
	refused("bob", id, joined-1, refusal.CursorInvisible, 0)
	refused("bob", id, left+1, refusal.CursorInvisible, 0)
	refused("bob", id, again-1, refusal.CursorInvisible, 0)
	refused("bob", id, 14, refusal.CursorBeyondHead, 13)
	refused("bob", id, -1, refusal.CursorInvisible, 0)
	refused("eve", id, 2, refusal.SessionUnavailable, 0)
	refused("bob", uuid.New(), 2, refusal.SessionUnavailable, 0)
	require.ErrorIs(t, w.states.MarkUnread(w.ctx, on("eve"), id), refusal.New(refusal.SessionUnavailable, ""))

	// A seq that cannot be seen stays refused when the watermark is past it.
	_, err := w.states.MarkReadTo(w.ctx, on("bob"), id, 12)
	require.NoError(t, err)
	w.notified.take()
	refused("bob", id, left+1, refusal.CursorInvisible, 0)

	// One bad seq refuses all.
	_, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{13, left + 1})
	require.ErrorIs(t, err, refusal.New(refusal.CursorInvisible, ""))
	require.Zero(t, w.rows(t, "bob", id))

	// Who left marks what they can still see, and learns nothing of what came later.
	end := w.leave(t, id, "bob") // 14
	w.texts(t, id, "ann", 3)
	refused("bob", id, end+1, refusal.CursorBeyondHead, end)
	v, err := w.states.MarkReadTo(w.ctx, on("bob"), id, end)
	require.NoError(t, err)
	require.Equal(t, state.View{SessionID: id, ReadSeq: end}, v)

	_, err = w.states.MarkRead(w.ctx, on("ann"), id, make([]int64, state.MaxSeqs+1))
	require.ErrorIs(t, err, refusal.New(refusal.InvalidField, ""))
}

func TestMarkReadAbsorbs(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 6) // 2 to 7

	v, err := w.states.MarkRead(w.ctx, on("bob"), id, []int64{6, 4, 4})
	require.NoError(t, err)
	require.Equal(t, state.View{SessionID: id, Active: true, ReadSeq: 1, Unread: 4}, v, "the entry that made the group does not count")
	require.EqualValues(t, 2, w.rows(t, "bob", id))
	got := w.notified.take()
	require.Len(t, got, 1)
	require.Equal(t, []int64{4, 6}, got[0].event.GetReadSeqs())
	require.Empty(t, got[0].event.GetDeletedSeqs())

	v, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{2, 6})
	require.NoError(t, err)
	require.EqualValues(t, 2, v.ReadSeq)
	require.Empty(t, w.notified.take()[0].event.GetReadSeqs(), "what the watermark covers is not listed")

	v, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{3})
	require.NoError(t, err)
	require.EqualValues(t, 4, v.ReadSeq)
	require.EqualValues(t, 2, v.Unread)
	require.EqualValues(t, 1, w.rows(t, "bob", id), "6 alone")

	// Recalled entries and log events do not stop it, and end at the last seq that can be seen.
	w.recall(t, id, "ann", 5) // 8
	v, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{7})
	require.NoError(t, err)
	require.Equal(t, state.View{SessionID: id, Active: true, ReadSeq: 8}, v)
	require.Zero(t, w.rows(t, "bob", id))
	w.notified.take()

	// An entry that does not count needs no row, and a mark of it still lets the watermark pass.
	w.entry(t, id, "ann", message.TypeSessionChange) // 9
	v, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{9})
	require.NoError(t, err)
	require.EqualValues(t, 9, v.ReadSeq)
	require.Zero(t, w.rows(t, "bob", id))
	require.Len(t, w.notified.take(), 1)
}

func TestWatermarkPassesWhatCannotBeSeen(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 2)    // 2, 3
	w.leave(t, id, "bob")       // 4
	w.texts(t, id, "ann", 5)    // 5 to 9
	w.join(t, id, "bob", false) // 10
	w.texts(t, id, "ann", 2)    // 11, 12
	require.EqualValues(t, 2, w.view(t, "bob", id).Unread, "from the present join on")

	v, err := w.states.MarkRead(w.ctx, on("bob"), id, []int64{2, 3})
	require.NoError(t, err)
	require.EqualValues(t, 10, v.ReadSeq)
	v, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{11, 12})
	require.NoError(t, err)
	require.Equal(t, state.View{SessionID: id, Active: true, ReadSeq: 12}, v)
}

func TestUnreadFlag(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 2)
	_, err := w.states.MarkReadTo(w.ctx, on("bob"), id, 3)
	require.NoError(t, err)
	w.notified.take()

	require.NoError(t, w.states.MarkUnread(w.ctx, on("bob"), id))
	require.NoError(t, w.states.MarkUnread(w.ctx, on("bob"), id))
	got := w.notified.take()
	require.Len(t, got, 1, "the second changed nothing")
	require.True(t, got[0].event.GetMarkedUnread())
	total, views, err := w.states.Unread(w.ctx, "bob", nil)
	require.NoError(t, err)
	require.Zero(t, total)
	require.Equal(t, []state.View{{SessionID: id, Active: true, ReadSeq: 3, MarkedUnread: true}}, views)

	// Deleting leaves it, marking as read takes it away even where the watermark stays.
	_, err = w.states.Delete(w.ctx, on("bob"), id, []int64{2})
	require.NoError(t, err)
	require.True(t, w.view(t, "bob", id).MarkedUnread)
	v, err := w.states.MarkReadTo(w.ctx, on("bob"), id, 3)
	require.NoError(t, err)
	require.False(t, v.MarkedUnread)
	require.NoError(t, w.states.MarkUnread(w.ctx, on("bob"), id))
	v, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{2})
	require.NoError(t, err)
	require.False(t, v.MarkedUnread)
	_, views, err = w.states.Unread(w.ctx, "bob", nil)
	require.NoError(t, err)
	require.Empty(t, views)
}

func TestDelete(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 6) // 2 to 7

	v, err := w.states.Delete(w.ctx, on("bob"), id, []int64{5, 1, 2})
	require.NoError(t, err)
	require.Equal(t, state.View{SessionID: id, Active: true, ReadSeq: 2, Unread: 4}, v, "3, 4, 6 and 7 are left")
	require.Equal(t, []int64{1, 2, 5}, w.notified.take()[0].event.GetDeletedSeqs())
	require.EqualValues(t, 3, w.rows(t, "bob", id), "deleted stays deleted below the watermark")

	_, err = w.states.Delete(w.ctx, on("bob"), id, []int64{5})
	require.NoError(t, err)
	require.Empty(t, w.notified.take())

	_, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{7})
	require.NoError(t, err)
	_, err = w.states.Delete(w.ctx, on("bob"), id, []int64{7})
	require.NoError(t, err, "read first, deleted then")
	w.notified.take()

	v, err = w.states.DeleteTo(w.ctx, on("bob"), id, 6)
	require.NoError(t, err)
	require.Equal(t, state.View{SessionID: id, Active: true, ReadSeq: 6, DeletedToSeq: 6}, v)
	require.EqualValues(t, 1, w.rows(t, "bob", id))
	require.EqualValues(t, 6, w.notified.take()[0].event.GetDeletedToSeq())

	v, err = w.states.DeleteTo(w.ctx, on("bob"), id, 3)
	require.NoError(t, err)
	require.EqualValues(t, 6, v.DeletedToSeq)
	require.Empty(t, w.notified.take())
}

// A send moves the watermark over exceptions and leaves their rows; the next mark takes them along.
func TestMarksSweepWhatSendsLeft(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 300) // 2 to 301
	for from := int64(3); from <= 301; from += 2 {
		_, err := w.states.MarkRead(w.ctx, on("bob"), id, []int64{from})
		require.NoError(t, err)
	}
	require.EqualValues(t, 150, w.rows(t, "bob", id))
	own := w.text(t, id, "bob")
	require.EqualValues(t, 150, w.rows(t, "bob", id))

	for range 2 {
		next := w.text(t, id, "ann")
		require.Greater(t, next, own)
		_, err := w.states.MarkReadTo(w.ctx, on("bob"), id, next)
		require.NoError(t, err)
	}
	require.Zero(t, w.rows(t, "bob", id))
}
