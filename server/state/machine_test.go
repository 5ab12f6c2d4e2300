package state_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/state"
)

// machine drives the service and the model side by side.
type machine struct {
	*world
	id    uuid.UUID
	model *model
}

var machineUsers = []string{"ann", "bob", "cid"}

// Whatever people do in whatever order, counts, states and readers are what the definitions say.
func TestStatesAgreeWithTheModel(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{world: w, id: w.group(t, machineUsers...), model: &model{members: map[string]*modelMember{}}}
		m.model.append("ann", message.TypeMemberChange)
		for _, user := range machineUsers {
			m.model.join(user, 1, false)
		}
		t.Repeat(map[string]func(*rapid.T){
			"send": m.send, "recall": m.recalled, "leave": m.left, "join": m.joined,
			"mark to": m.markTo, "mark": m.mark, "delete to": m.deleteTo, "delete": m.remove, "mark unread": m.flag,
			"": m.check,
		})
	})
}

func (m *machine) user(t *rapid.T, active bool) string {
	var fit []string
	for _, user := range machineUsers {
		if m.model.members[user].active == active {
			fit = append(fit, user)
		}
	}
	if len(fit) == 0 {
		t.Skip("nobody fits")
	}
	return rapid.SampledFrom(fit).Draw(t, "user")
}

func (m *machine) anybody(t *rapid.T) string { return rapid.SampledFrom(machineUsers).Draw(t, "user") }

// seq is mostly good, but may lie where the user cannot see.
func (m *machine) seq(t *rapid.T) int64 { return rapid.Int64Range(0, m.model.head()+1).Draw(t, "seq") }

func (m *machine) send(t *rapid.T) {
	user := m.user(t, true)
	for range rapid.IntRange(1, 4).Draw(t, "n") {
		require.Equal(t, m.model.append(user, message.TypeText), m.text(t, m.id, user))
	}
}

func (m *machine) recalled(t *rapid.T) {
	seq := rapid.Int64Range(1, m.model.head()).Draw(t, "seq")
	if e := m.model.at(seq); !e.typ.Countable() || e.recalled {
		t.Skip("not recallable")
	}
	m.recall(t, m.id, "ann", seq)
	m.model.append("ann", message.TypeRecall)
	m.model.at(seq).recalled = true
}

func (m *machine) left(t *rapid.T) {
	user := m.user(t, true)
	m.model.append(user, message.TypeMemberChange)
	m.model.leave(user, m.leave(t, m.id, user))
}

func (m *machine) joined(t *rapid.T) {
	user, fromStart := m.user(t, false), rapid.Bool().Draw(t, "from start")
	m.model.append(user, message.TypeMemberChange)
	m.model.join(user, m.join(t, m.id, user, fromStart), fromStart)
}

func (m *machine) markTo(t *rapid.T) {
	user, seq := m.anybody(t), m.seq(t)
	m.apply(t, user, []int64{seq}, func() (state.View, error) {
		return m.states.MarkReadTo(m.ctx, on(user), m.id, seq)
	}, func() (made, deleted []int64) {
		m.model.markTo(user, seq)
		return nil, nil
	})
}

func (m *machine) mark(t *rapid.T) {
	user, seqs := m.anybody(t), m.seqs(t)
	m.apply(t, user, seqs, func() (state.View, error) {
		return m.states.MarkRead(m.ctx, on(user), m.id, seqs)
	}, func() (made, deleted []int64) { return m.model.mark(user, distinct(seqs)), nil })
}

func (m *machine) deleteTo(t *rapid.T) {
	user, seq := m.anybody(t), m.seq(t)
	m.apply(t, user, []int64{seq}, func() (state.View, error) {
		return m.states.DeleteTo(m.ctx, on(user), m.id, seq)
	}, func() (made, deleted []int64) {
		m.model.deleteTo(user, seq)
		return nil, nil
	})
}

func (m *machine) remove(t *rapid.T) {
	user, seqs := m.anybody(t), m.seqs(t)
	m.apply(t, user, seqs, func() (state.View, error) {
		return m.states.Delete(m.ctx, on(user), m.id, seqs)
	}, func() (made, deleted []int64) { return nil, m.model.remove(user, distinct(seqs)) })
}

func (m *machine) flag(t *rapid.T) {
	user := m.anybody(t)
	m.apply(t, user, nil, func() (state.View, error) {
		return m.view(t, user, m.id), m.states.MarkUnread(m.ctx, on(user), m.id)
	}, func() (made, deleted []int64) {
		m.model.members[user].flag = true
		return nil, nil
	})
}

func (m *machine) seqs(t *rapid.T) []int64 {
	if rapid.IntRange(0, 4).Draw(t, "far") == 0 {
		return rapid.SliceOfN(rapid.Int64Range(0, m.model.head()+1), 1, 4).Draw(t, "seqs")
	}
	return rapid.SliceOfN(rapid.Int64Range(max(1, m.model.head()-6), m.model.head()), 1, 4).Draw(t, "seqs")
}

func distinct(seqs []int64) []int64 { return slices.Compact(slices.Sorted(slices.Values(seqs))) }

// apply does one change on both sides, and compares the answer or refusal, what was stored and who was told.
func (m *machine) apply(t *rapid.T, user string, seqs []int64, do func() (state.View, error), model func() (made, deleted []int64)) {
	before, notes := m.model.view(user, m.id), m.notes(t, user, m.id)
	view, err := do()
	told := m.notified.take()
	if want := m.refusal(user, seqs); want != nil {
		require.Contains(t, want, reasonOf(err))
		require.Empty(t, told)
		require.Equal(t, notes, m.notes(t, user, m.id))
		return
	}
	require.NoError(t, err)
	made, deleted := model()
	after := m.model.view(user, m.id)
	if seqs != nil {
		require.Equal(t, after, view)
	}
	if len(made)+len(deleted) == 0 && before == after {
		require.Empty(t, told)
		require.Equal(t, notes, m.notes(t, user, m.id))
		return
	}
	require.Len(t, told, 1)
	require.Equal(t, notes+1, m.notes(t, user, m.id))
	require.Equal(t, m.number(t, `SELECT max(id) FROM commit_log`), told[0].handled)
	above := slices.DeleteFunc(made, func(seq int64) bool { return seq <= after.ReadSeq })
	require.Equal(t, state.Event(after, state.Changes{Read: above, Deleted: deleted}).GetState().String(), told[0].event.String())
	require.Zero(t, m.number(t, `SELECT count(*) FROM msg_state WHERE user_id = $1 AND session_id = $2
		AND (seq_id <= $3 OR (seq_id <= $4 AND NOT is_delete))`, user, m.id, after.DeletedToSeq, m.sweptTo(before, after)))
}

// sweptTo is up to where no exception may be left that only says read: marks drop them when they move the watermark.
func (m *machine) sweptTo(before, after state.View) int64 {
	if after.ReadSeq > before.ReadSeq {
		return after.ReadSeq
	}
	return 0
}

// refusal returns the reasons that the call may be refused with, nil if it must not be.
func (m *machine) refusal(user string, seqs []int64) (want []refusal.Reason) {
	for _, seq := range seqs {
		if seq > m.model.last(user) {
			want = append(want, refusal.CursorBeyondHead)
		} else if !m.model.visible(user, seq) {
			want = append(want, refusal.CursorInvisible)
		}
	}
	return want
}

func reasonOf(err error) refusal.Reason {
	r, _ := refusal.Of(err)
	return r
}

func (m *machine) check(t *rapid.T) {
	caller := m.anybody(t)
	want := m.model.view(caller, m.id)
	require.Equal(t, want, m.view(t, caller, m.id))
	total, _, err := m.states.Unread(m.ctx, caller, []uuid.UUID{m.id})
	require.NoError(t, err)
	require.Equal(t, want.Unread, total)
	m.checkStates(t, caller)

	seq := rapid.Int64Range(1, m.model.head()).Draw(t, "read by")
	got, err := m.states.Readers(m.ctx, caller, m.id, seq, "", 0)
	switch {
	case !m.model.members[caller].active:
		require.Equal(t, refusal.SessionUnavailable, reasonOf(err))
	case !m.model.visible(caller, seq):
		require.Equal(t, refusal.MessageUnavailable, reasonOf(err))
	default:
		require.NoError(t, err)
		want := m.model.readers(seq)
		require.Equal(t, int64(len(want)), got.Count)
		require.ElementsMatch(t, want, got.Users)
	}
}

func (m *machine) checkStates(t *rapid.T, user string) {
	page, err := m.states.List(m.ctx, user, m.id, 0, state.MaxPage)
	require.NoError(t, err)
	of, err := m.states.StatesOf(m.ctx, user, []message.Range{{SessionID: m.id, To: m.model.head()}})
	require.NoError(t, err)
	var unread int64
	rest := page.States
	for seq := int64(1); seq <= m.model.head(); seq++ {
		if !m.model.visible(user, seq) {
			continue
		}
		e := m.model.at(seq)
		read, deleted := m.model.isRead(user, seq), m.model.isDeleted(user, seq)
		require.NotEmpty(t, rest)
		got := rest[0]
		rest = rest[1:]
		require.Equal(t, state.SeqState{Seq: seq, MessageID: got.MessageID, Read: read, Deleted: deleted}, got, user)
		alsoRead, alsoDeleted := of(m.id, seq, e.sender == user, e.typ.Countable() && !e.recalled)
		require.Equal(t, [2]bool{read, deleted}, [2]bool{alsoRead, alsoDeleted})
		if u := m.model.members[user]; u.active && seq >= u.joined && !read {
			unread++
		}
	}
	require.Empty(t, rest)
	require.Equal(t, m.model.unread(user), unread, "the unread count is the number of unread states")
}
