package session_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

func recallOf(seq int64) *parleyv1.Content {
	return &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: seq}}}
}

// What every Log promises.
func TestLog(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.addUsers(t, "a", "b", "c")
		change := func(id uuid.UUID, fn func(ctx context.Context, l session.Log)) {
			t.Helper()
			require.NoError(t, w.Change(t.Context(), id, func(ctx context.Context, l session.Log) error {
				fn(ctx, l)
				return nil
			}))
		}
		id := uuid.New()
		now := w.clock.Now()

		change(id, func(ctx context.Context, l session.Log) { // nothing is there
			_, ok := l.Session()
			require.False(t, ok)
			_, ok, err := l.Member(ctx, "a")
			require.NoError(t, err)
			require.False(t, ok)
			_, ok, err = l.Message(ctx, 1)
			require.NoError(t, err)
			require.False(t, ok)
			n, err := l.CountRole(ctx, session.RoleOwner)
			require.NoError(t, err)
			require.Zero(t, n)
		})
		change(id, func(ctx context.Context, l session.Log) { // what is done shows at once
			require.NoError(t, l.Create(ctx, session.Session{ID: id, Kind: session.KindGroup, OwnerID: "a", Title: "t",
				SendRole: session.RoleMember, CreatedAt: now}))
			s, ok := l.Session()
			require.True(t, ok)
			require.Zero(t, s.LastSeq)
			e, err := l.Append(ctx, as("a"), recallOf(9), now)
			require.NoError(t, err)
			require.EqualValues(t, 1, e.Seq)
			require.Equal(t, id, e.SessionID)
			require.Equal(t, message.TypeRecall, e.Type)
			require.NoError(t, l.Join(ctx, []string{"b", "a"}, session.RoleOwner, e.Seq, false))
			require.NoError(t, l.Join(ctx, []string{"a"}, session.RoleMember, 5, false), "members stay as they are")
			s, _ = l.Session()
			require.EqualValues(t, 1, s.LastSeq)
			require.EqualValues(t, 2, s.MemberCount)
			n, err := l.CountRole(ctx, session.RoleOwner)
			require.NoError(t, err)
			require.EqualValues(t, 2, n)
			s.Title, s.SendRole = "u", session.RoleAdmin
			require.NoError(t, l.Update(ctx, s))
			require.NoError(t, l.SetRole(ctx, "b", session.RoleAdmin))
			require.NoError(t, l.SetMuted(ctx, "b", true))
			_, err = l.Append(ctx, as("a"), &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: "x"}}}, now)
			require.Error(t, err, "a text is no log event")
		})
		change(id, func(ctx context.Context, l session.Log) { // and stays
			s, _ := l.Session()
			require.Equal(t, "u", s.Title)
			require.Equal(t, session.RoleAdmin, s.SendRole)
			require.EqualValues(t, 2, s.MemberCount)
			m, ok, err := l.Member(ctx, "b")
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, session.Membership{UserID: "b", SessionID: id, Role: session.RoleAdmin, JoinedSeq: 1,
				Visible: session.Visibility{{From: 1, To: session.Open}}, Muted: true}, m)
			cs, err := l.Candidates(ctx, "a", []string{"c", "b", "x", "c"})
			require.NoError(t, err)
			require.Equal(t, []session.Candidate{{UserID: "c", Available: true}, {UserID: "b", Available: true, Member: true},
				{UserID: "x"}, {UserID: "c", Available: true}}, cs)

			e, err := l.Append(ctx, as("b"), recallOf(1), now)
			require.NoError(t, err)
			require.NoError(t, l.Erase(ctx, 1, e.Seq))
			got, ok, err := l.Message(ctx, 1)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, session.LoggedMessage{SenderID: "a", Type: message.TypeRecall, RecallSeq: 2}, got)
			got, _, err = l.Message(ctx, 2)
			require.NoError(t, err)
			require.Zero(t, got.RecallSeq)
			require.NoError(t, l.Leave(ctx, "b", e.Seq))
			n, err := l.CountRole(ctx, session.RoleAdmin)
			require.NoError(t, err)
			require.Zero(t, n)
		})
		require.Error(t, w.Change(t.Context(), id, func(ctx context.Context, l session.Log) error {
			return l.Erase(ctx, 1, 2)
		}), "erased twice")

		// An erased entry takes nothing else with it.
		all := w.entries(t, id)
		require.Len(t, all, 2)
		require.True(t, all[0].IsDeleted)
		require.Nil(t, all[0].Body)
		require.False(t, all[1].IsDeleted)
		require.NotNil(t, all[1].Body)
	})
}

func TestLogRollsBack(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{Title: "t"}, "a", "b")
		before, _ := w.locked(t, id)
		stop := errors.New("stop")
		err := w.Change(t.Context(), id, func(ctx context.Context, l session.Log) error {
			e, err := l.Append(ctx, as("a"), recallOf(1), w.clock.Now())
			require.NoError(t, err)
			require.NoError(t, l.Leave(ctx, "b", e.Seq))
			require.NoError(t, l.Update(ctx, session.Session{Title: "u", SendRole: session.RoleMember}))
			return stop
		})
		require.ErrorIs(t, err, stop)
		after, _ := w.locked(t, id)
		require.Equal(t, before, after)
		require.Len(t, w.entries(t, id), 1)
		m, _ := w.member(t, id, "b")
		require.True(t, m.Active())
	})
}

// What a user can see after any course of joining, leaving and changes of the setting, against a model that notes for each
// entry who saw it come, or was shown it later.
func TestVisibilityAgainstModel(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.addUsers(t, "alice", "bob")
		rapid.Check(t, func(rt *rapid.T) {
			history := rapid.Bool().Draw(rt, "history")
			v, err := w.Create(t.Context(), as("alice"), nil, session.Group{HistoryVisible: history}, nil)
			require.NoError(rt, err)
			id, head, member := v.Session.ID, int64(1), false
			seen := map[int64]bool{}
			note := func(seq int64, err error) {
				require.NoError(rt, err)
				require.Equal(rt, head+1, seq)
				head = seq
				seen[seq] = seen[seq] || member
			}
			for range rapid.IntRange(1, 12).Draw(rt, "steps") {
				switch rapid.IntRange(0, 2).Draw(rt, "step") {
				case 0: // in or out; both see the entry that says so
					if member {
						note(w.Leave(t.Context(), as("bob"), id))
						member = false
					} else {
						member = true
						note(w.AddMembers(t.Context(), as("alice"), id, []string{"bob"}))
						for seq := int64(1); history && seq <= head; seq++ {
							seen[seq] = true
						}
					}
				case 1:
					history = !history
					seq, _, err := w.Update(t.Context(), as("alice"), id, session.GroupPatch{HistoryVisible: &history})
					note(seq, err)
				case 2:
					seq, _, err := w.Update(t.Context(), as("alice"), id, session.GroupPatch{Title: ptr(uuid.NewString())})
					note(seq, err)
				}
			}
			m, ok := w.member(t, id, "bob")
			if !ok {
				require.Empty(rt, seen[head])
				return
			}
			require.Equal(rt, member, m.Active())
			for seq := int64(1); seq <= head; seq++ {
				require.Equal(rt, seen[seq], m.Visible.Contains(seq), "entry %d of %d: %v", seq, head, m.Visible)
			}
			require.Equal(rt, member, m.Visible.Contains(head+1))
		})
	})
}
