package state_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/state"
)

func TestList(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 3)            // 2 to 4
	w.leave(t, id, "bob")               // 5
	w.texts(t, id, "ann", 2)            // 6, 7
	again := w.join(t, id, "bob", true) // 8
	own := w.text(t, id, "bob")         // 9
	w.texts(t, id, "ann", 3)            // 10 to 12
	w.recall(t, id, "ann", 11)          // 13
	_, err := w.states.Delete(w.ctx, on("bob"), id, []int64{2, 10})
	require.NoError(t, err)

	page, err := w.states.List(w.ctx, "bob", id, 0, 0)
	require.NoError(t, err)
	require.EqualValues(t, 11, page.ReadSeq, "over the deleted and the recalled one")
	require.Len(t, page.States, 13, "a join that shows the past shows all of it, each entry once")
	for i, s := range page.States {
		require.EqualValues(t, i+1, s.Seq)
		require.NotEqual(t, uuid.Nil, s.MessageID)
		require.Equal(t, s.Seq != 12, s.Read, s.Seq)
		require.Equal(t, s.Seq == 2 || s.Seq == 10, s.Deleted, s.Seq)
	}
	require.Greater(t, own, again)

	page, err = w.states.List(w.ctx, "bob", id, 11, 1)
	require.NoError(t, err)
	require.Len(t, page.States, 1)
	require.EqualValues(t, 12, page.States[0].Seq)
	page, err = w.states.List(w.ctx, "bob", id, 13, 10)
	require.NoError(t, err)
	require.Empty(t, page.States)
	require.EqualValues(t, 11, page.ReadSeq)

	w.users(t, "eve")
	_, err = w.states.List(w.ctx, "eve", id, 0, 0)
	require.ErrorIs(t, err, refusal.New(refusal.SessionUnavailable, ""))
}

func TestListJumpsGaps(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.leave(t, id, "bob") // 2
	var want []int64
	want = append(want, 1, 2)
	for range 3 {
		w.texts(t, id, "ann", 2)
		want = append(want, w.join(t, id, "bob", false), w.text(t, id, "ann"), w.leave(t, id, "bob"))
	}
	w.texts(t, id, "ann", 2)
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []int64
		for after := int64(0); ; {
			page, err := w.states.List(w.ctx, "bob", id, after, limit)
			require.NoError(t, err)
			if len(page.States) == 0 {
				break
			}
			require.LessOrEqual(t, len(page.States), limit)
			for _, s := range page.States {
				got, after = append(got, s.Seq), s.Seq
			}
		}
		require.Equal(t, want, got, limit)
	}
}

func TestReaders(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob", "cid", "dan", "eve")
	w.users(t, "zoe")
	w.texts(t, id, "ann", 3)           // 2 to 4
	w.leave(t, id, "dan")              // 5
	late := w.join(t, id, "fay", true) // 6
	w.join(t, id, "gus", false)        // 7
	for _, user := range []string{"bob", "eve", "fay", "gus"} {
		_, err := w.states.MarkReadTo(w.ctx, on(user), id, late+1)
		require.NoError(t, err)
	}
	_, err := w.states.MarkReadTo(w.ctx, on("dan"), id, 4)
	require.NoError(t, err)
	_, err = w.states.MarkRead(w.ctx, on("cid"), id, []int64{3})
	require.NoError(t, err)

	r, err := w.states.Readers(w.ctx, "ann", id, 3, "", 0)
	require.NoError(t, err)
	require.Equal(t, state.Readers{Count: 4, Users: []string{"bob", "cid", "eve", "fay"}}, r,
		"not the sender, not who left, not who cannot see it")
	r, err = w.states.Readers(w.ctx, "ann", id, 4, "", 0)
	require.NoError(t, err)
	require.Equal(t, state.Readers{Count: 3, Users: []string{"bob", "eve", "fay"}}, r)

	// Pages.
	var got []string
	for after, more := "", true; more; {
		r, err = w.states.Readers(w.ctx, "ann", id, 3, after, 3)
		require.NoError(t, err)
		require.EqualValues(t, 4, r.Count)
		got, more = append(got, r.Users...), r.More
		after = got[len(got)-1]
	}
	require.Equal(t, []string{"bob", "cid", "eve", "fay"}, got)

	// A recalled message keeps its readers.
	w.recall(t, id, "ann", 3)
	r, err = w.states.Readers(w.ctx, "bob", id, 3, "", 0)
	require.NoError(t, err)
	require.EqualValues(t, 4, r.Count)

	for user, want := range map[string]refusal.Reason{
		"dan": refusal.SessionUnavailable, "zoe": refusal.SessionUnavailable, "gus": refusal.MessageUnavailable,
	} {
		_, err = w.states.Readers(w.ctx, user, id, 3, "", 0)
		require.ErrorIs(t, err, refusal.New(want, ""), user)
	}
	_, err = w.states.Readers(w.ctx, "ann", id, 100, "", 0)
	require.ErrorIs(t, err, refusal.New(refusal.MessageUnavailable, ""))
	_, err = w.states.Readers(w.ctx, "ann", uuid.New(), 1, "", 0)
	require.ErrorIs(t, err, refusal.New(refusal.SessionUnavailable, ""))
}

func TestUnread(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	var ids []uuid.UUID
	for n := range 5 {
		id := w.group(t, "ann", "bob")
		w.texts(t, id, "ann", n) // 0 to 4
		ids = append(ids, id)
	}
	w.leave(t, ids[3], "bob")
	require.NoError(t, w.states.MarkUnread(w.ctx, on("bob"), ids[0]))
	want := []state.View{
		{SessionID: ids[0], Active: true, MarkedUnread: true},
		{SessionID: ids[1], Active: true, Unread: 1},
		{SessionID: ids[2], Active: true, Unread: 2},
		{SessionID: ids[4], Active: true, Unread: 4},
	}
	slices.SortFunc(want, func(a, b state.View) int { return slices.Compare(a.SessionID[:], b.SessionID[:]) })

	total, views, err := w.states.Unread(w.ctx, "bob", nil)
	require.NoError(t, err)
	require.EqualValues(t, 7, total)
	require.Equal(t, want, views)

	total, views, err = w.states.Unread(w.ctx, "bob", []uuid.UUID{uuid.New(), ids[3], ids[4]})
	require.NoError(t, err)
	require.EqualValues(t, 4, total)
	require.Equal(t, []state.View{{SessionID: ids[4], Active: true, Unread: 4}}, views)

	total, views, err = w.states.Unread(w.ctx, "nobody", nil)
	require.NoError(t, err)
	require.Zero(t, total)
	require.Empty(t, views)
}

func TestStatesOf(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	a, b, foreign := w.group(t, "ann", "bob"), w.group(t, "ann", "bob"), w.group(t, "ann")
	for _, id := range []uuid.UUID{a, b, foreign} {
		w.texts(t, id, "ann", 4) // 2 to 5
	}
	_, err := w.states.MarkReadTo(w.ctx, on("bob"), a, 2)
	require.NoError(t, err)
	_, err = w.states.MarkRead(w.ctx, on("bob"), a, []int64{4})
	require.NoError(t, err)
	_, err = w.states.Delete(w.ctx, on("bob"), b, []int64{3})
	require.NoError(t, err)

	of, err := w.states.StatesOf(w.ctx, "bob", []message.Range{
		{SessionID: b, From: 1, To: 5}, {SessionID: a, From: 0, To: 2}, {SessionID: a, From: 2, To: 5},
		{SessionID: foreign, From: 0, To: 5},
	})
	require.NoError(t, err)
	for _, want := range []struct {
		id            uuid.UUID
		seq           int64
		read, deleted bool
	}{
		{a, 2, true, false}, {a, 3, false, false}, {a, 4, true, false}, {a, 5, false, false},
		{b, 2, false, false}, {b, 3, true, true}, {b, 4, false, false}, {foreign, 2, false, false},
	} {
		read, deleted := of(want.id, want.seq, false, true)
		require.Equal(t, want.read, read, want)
		require.Equal(t, want.deleted, deleted, want)
	}
	read, _ := of(a, 5, true, true)
	require.True(t, read, "own")
	read, _ = of(a, 5, false, false)
	require.True(t, read, "nothing to be read")
}
