package session_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

func TestCreate(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.addUsers(t, "alice", "bob", "carol")
		v, err := w.Create(t.Context(), as("alice"), nil,
			session.Group{Title: "Trip", AvatarURL: "https://x.example/a.png", SendRole: session.RoleAdmin},
			[]string{"carol", "alice", "bob", "carol"})
		require.NoError(t, err)
		require.Equal(t, session.KindGroup, v.Session.Kind)
		require.Equal(t, "alice", v.Session.OwnerID)
		require.Equal(t, "Trip", v.Session.Title)
		require.Equal(t, "https://x.example/a.png", v.Session.AvatarURL)
		require.Equal(t, session.RoleAdmin, v.Session.SendRole)
		require.EqualValues(t, 3, v.Session.MemberCount)
		require.EqualValues(t, 1, v.Head())
		require.Equal(t, "2023-11-14T22:13:20.123456Z", v.Session.CreatedAt.Format("2006-01-02T15:04:05.999999999Z"))

		e, content := w.last(t, v.Session.ID)
		require.EqualValues(t, 1, e.Seq)
		require.Equal(t, message.TypeMemberChange, e.Type)
		require.Equal(t, "alice", e.SenderID)
		require.Equal(t, "alice-phone", e.SenderDevice)
		require.Equal(t, v.Session.CreatedAt, e.CreatedAt)
		require.EqualValues(t, 7, e.MessageID.Version())
		require.Equal(t, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_CREATED, content.GetMemberChange().GetKind())
		require.Equal(t, []string{"alice", "carol", "bob"}, content.GetMemberChange().GetUserIds())

		for user, role := range map[string]session.Role{
			"alice": session.RoleOwner, "bob": session.RoleMember, "carol": session.RoleMember,
		} {
			m, ok := w.member(t, v.Session.ID, user)
			require.True(t, ok)
			require.Equal(t, role, m.Role)
			require.EqualValues(t, 1, m.JoinedSeq)
			require.Equal(t, session.Visibility{{From: 1, To: session.Open}}, m.Visible)
		}
	})
}

func TestCreateAlone(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{}, "alice")
		s, ok := w.locked(t, id)
		require.True(t, ok)
		require.EqualValues(t, 1, s.MemberCount)
		require.Equal(t, session.RoleMember, s.SendRole)
	})
}

func TestCreateAgainWithRequest(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.addUsers(t, "alice", "bob")
		key := uuid.New()
		first, err := w.Create(t.Context(), as("alice"), &key, session.Group{Title: "one"}, []string{"bob"})
		require.NoError(t, err)
		again, err := w.Create(t.Context(), as("alice"), &key, session.Group{Title: "two"}, []string{"nobody"})
		require.NoError(t, err)
		require.Equal(t, first, again)
		require.Len(t, w.entries(t, first.Session.ID), 1)

		other, err := w.Create(t.Context(), as("bob"), &key, session.Group{}, nil)
		require.NoError(t, err)
		require.NotEqual(t, first.Session.ID, other.Session.ID, "somebody else's key leads to the group")
		unkeyed, err := w.Create(t.Context(), as("alice"), nil, session.Group{}, nil)
		require.NoError(t, err)
		require.NotEqual(t, first.Session.ID, unkeyed.Session.ID)
		require.Equal(t, 3, w.sessionCount(t))
	})
}

// Who cannot be added is told by the same refusal for all reasons, and the whole call changes nothing.
func TestUnavailableUsers(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		w.addUsers(t, "alice", "ok", "gone", "blocker")
		w.deactivate(t, "gone")
		w.block(t, "blocker", "alice")
		id := w.group(t, session.Group{}, "alice")
		before := w.sessionCount(t)
		for _, bad := range []string{"gone", "blocker", "nobody", "zero\x00byte"} {
			_, err := w.AddMembers(t.Context(), as("alice"), id, []string{"ok", bad, "nobody either"})
			requireRefused(t, refusal.UserUnavailable, err)
			var r *refusal.Error
			require.ErrorAs(t, err, &r)
			require.Equal(t, map[string]string{"user_id": bad}, r.Meta)
			require.Equal(t, "This user does not exist or cannot take part.", r.Text)

			_, err = w.Create(t.Context(), as("alice"), nil, session.Group{}, []string{"ok", bad})
			requireRefused(t, refusal.UserUnavailable, err)

			_, err = w.RemoveMember(t.Context(), as("alice"), id, bad)
			requireRefused(t, refusal.UserUnavailable, err)
		}
		_, ok := w.member(t, id, "ok")
		require.False(t, ok)
		require.Len(t, w.entries(t, id), 1)
		require.Equal(t, before, w.sessionCount(t))

		_, err := w.AddMembers(t.Context(), as("ok"), id, []string{"nobody"})
		require.Equal(t, session.Unavailable, err, "a stranger learns who exists")
	})
}

// A block ends nothing that exists: who blocked the caller and is a member already is passed over.
func TestAddMembersPassesOverMembers(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{}, "alice", "bob", "carol")
		w.addUsers(t, "dave")
		w.block(t, "bob", "alice")
		w.deactivate(t, "carol")
		seq, err := w.AddMembers(t.Context(), as("alice"), id, []string{"bob", "carol", "alice", "bob"})
		require.NoError(t, err)
		require.EqualValues(t, 1, seq)

		seq, err = w.AddMembers(t.Context(), as("alice"), id, []string{"bob", "dave", "carol", "dave"})
		require.NoError(t, err)
		require.EqualValues(t, 2, seq)
		_, content := w.last(t, id)
		change := content.GetMemberChange()
		require.Equal(t, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ADDED, change.GetKind())
		require.Equal(t, []string{"dave"}, change.GetUserIds())
		require.Equal(t, parleyv1.MemberRole_MEMBER_ROLE_MEMBER, change.GetRole())
		m, _ := w.member(t, id, "dave")
		require.EqualValues(t, 2, m.JoinedSeq)
		require.Equal(t, session.Visibility{{From: 2, To: session.Open}}, m.Visible)
		s, _ := w.locked(t, id)
		require.EqualValues(t, 4, s.MemberCount)
	})
}

func TestGroupFull(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{}, "alice")
		w.addUsers(t, "bob", "carol")
		w.fill(t, id, session.MaxMembers-1)
		_, err := w.AddMembers(t.Context(), as("alice"), id, []string{"bob", "carol"})
		requireRefused(t, refusal.GroupFull, err)
		_, err = w.AddMembers(t.Context(), as("alice"), id, []string{"bob"})
		require.NoError(t, err)
		_, err = w.AddMembers(t.Context(), as("alice"), id, []string{"carol"})
		requireRefused(t, refusal.GroupFull, err)
		_, err = w.AddMembers(t.Context(), as("alice"), id, []string{"bob"})
		require.NoError(t, err, "nobody is added")
	})
}

func TestTooManySessions(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{}, "alice", "bob")
		w.addUsers(t, "busy")
		w.crowd(t, "busy")
		_, err := w.AddMembers(t.Context(), as("alice"), id, []string{"bob", "busy"})
		requireRefused(t, refusal.TooManySessions, err)
		_, err = w.Create(t.Context(), as("busy"), nil, session.Group{}, []string{"bob"})
		requireRefused(t, refusal.TooManySessions, err)
		_, err = w.AddMembers(t.Context(), as("bob"), id, []string{"busy"})
		requireRefused(t, refusal.RoleTooLow, err)
	})
}

func TestLeave(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{}, "alice", "bob", "carol")
		_, err := w.Leave(t.Context(), as("alice"), id)
		requireRefused(t, refusal.LastOwner, err)

		cut, err := w.Leave(t.Context(), as("bob"), id)
		require.NoError(t, err)
		require.EqualValues(t, 2, cut)
		_, content := w.last(t, id)
		require.Equal(t, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_LEFT, content.GetMemberChange().GetKind())
		require.Equal(t, []string{"bob"}, content.GetMemberChange().GetUserIds())

		cut, err = w.RemoveMember(t.Context(), as("alice"), id, "carol")
		require.NoError(t, err)
		require.EqualValues(t, 3, cut)
		_, content = w.last(t, id)
		require.Equal(t, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_REMOVED, content.GetMemberChange().GetKind())

		for user, want := range map[string]int64{"bob": 2, "carol": 3} {
			again, err := w.Leave(t.Context(), as(user), id)
			require.NoError(t, err)
			require.Equal(t, want, again)
			again, err = w.RemoveMember(t.Context(), as("alice"), id, user)
			require.NoError(t, err)
			require.Equal(t, want, again)
			m, _ := w.member(t, id, user)
			require.Equal(t, session.Visibility{{From: 1, To: want}}, m.Visible)
		}

		cut, err = w.Leave(t.Context(), as("alice"), id)
		require.NoError(t, err, "the last member may leave")
		require.EqualValues(t, 4, cut)
		s, _ := w.locked(t, id)
		require.Zero(t, s.MemberCount)
	})
}

func TestRejoin(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{}, "alice", "bob") // 1
		owner := as("alice")
		step := func(seq int64, err error) int64 {
			t.Helper()
			require.NoError(t, err)
			return seq
		}
		step(w.SetMember(t.Context(), owner, id, "bob", session.Standing{Role: session.RoleAdmin, Muted: ptr(true)})) // 2, 3
		require.EqualValues(t, 4, step(w.RemoveMember(t.Context(), owner, id, "bob")))                                // 4
		step(w.SetMember(t.Context(), owner, id, "alice", session.Standing{}))                                        // nothing
		require.EqualValues(t, 5, step(w.AddMembers(t.Context(), owner, id, []string{"bob"})))                        // 5
		m, _ := w.member(t, id, "bob")
		require.Equal(t, session.RoleMember, m.Role)
		require.False(t, m.Muted)
		require.Zero(t, m.LeftSeq)
		require.EqualValues(t, 5, m.JoinedSeq)
		require.EqualValues(t, 5, m.VisibleFrom())
		requireSees(t, m.Visible, 1, 2, 3, 4, 5, 6)

		step(w.Leave(t.Context(), as("bob"), id)) // 6
		for i := range 3 {
			seq, _, err := w.Update(t.Context(), owner, id, session.GroupPatch{Title: ptr(fmt.Sprint(i))}) // 7, 8, 9
			step(seq, err)
		}
		require.EqualValues(t, 10, step(w.AddMembers(t.Context(), owner, id, []string{"bob"}))) // 10
		m, _ = w.member(t, id, "bob")
		requireSees(t, m.Visible, 1, 2, 3, 4, 5, 6, 10, 11)

		step(w.Leave(t.Context(), as("bob"), id)) // 11
		seq, _, err := w.Update(t.Context(), owner, id, session.GroupPatch{HistoryVisible: ptr(true)})
		require.EqualValues(t, 12, step(seq, err))
		require.EqualValues(t, 13, step(w.AddMembers(t.Context(), owner, id, []string{"bob"})))
		m, _ = w.member(t, id, "bob")
		require.Equal(t, session.Visibility{{From: 1, To: session.Open}}, m.Visible)
		require.EqualValues(t, 13, m.JoinedSeq)
		require.EqualValues(t, 1, m.VisibleFrom())
	})
}

// requireSees checks a visibility against the seqs 1 to 14: those given are seen, and all after the last of them if it is
// open.
func requireSees(t testing.TB, v session.Visibility, want ...int64) {
	t.Helper()
	var got []int64
	for seq := int64(1); seq <= want[len(want)-1]; seq++ {
		if v.Contains(seq) {
			got = append(got, seq)
		}
	}
	require.Equal(t, want, got)
}

func TestUpdate(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		id := w.group(t, session.Group{Title: "old"}, "alice")
		update := func(p session.GroupPatch) (int64, session.View) {
			t.Helper()
			seq, v, err := w.Update(t.Context(), as("alice"), id, p)
			require.NoError(t, err)
			return seq, v
		}
		seq, v := update(session.GroupPatch{Title: ptr("new"), AvatarURL: ptr(""), HistoryVisible: ptr(false), SendRole: ptr(session.RoleMember)})
		require.EqualValues(t, 2, seq)
		require.Equal(t, "new", v.Session.Title)
		e, content := w.last(t, id)
		require.Equal(t, message.TypeSessionChange, e.Type)
		change := content.GetSessionChange()
		require.Equal(t, "new", change.GetTitle())
		require.Nil(t, change.AvatarUrl)
		require.Nil(t, change.HistoryVisible)
		require.Nil(t, change.SendRole)

		seq, _ = update(session.GroupPatch{Title: ptr("new")})
		require.EqualValues(t, 2, seq)
		seq, _ = update(session.GroupPatch{})
		require.EqualValues(t, 2, seq)

		seq, v = update(session.GroupPatch{Title: ptr(""), AvatarURL: ptr("https://x.example/"), HistoryVisible: ptr(true), SendRole: ptr(session.RoleOwner)})
		require.EqualValues(t, 3, seq)
		require.Empty(t, v.Session.Title)
		require.Equal(t, "https://x.example/", v.Session.AvatarURL)
		require.True(t, v.Session.HistoryVisible)
		require.Equal(t, session.RoleOwner, v.Session.SendRole)
		_, content = w.last(t, id)
		change = content.GetSessionChange()
		require.NotNil(t, change.Title)
		require.Equal(t, parleyv1.MemberRole_MEMBER_ROLE_OWNER, change.GetSendRole())

		for _, p := range []session.GroupPatch{{Title: ptr("a\x00b")}, {AvatarURL: ptr("\x00")}} {
			_, _, err := w.Update(t.Context(), as("alice"), id, p)
			requireRefused(t, refusal.InvalidField, err)
		}
		_, err := w.Create(t.Context(), as("alice"), nil, session.Group{Title: "\x00"}, nil)
		requireRefused(t, refusal.InvalidField, err)
	})
}
