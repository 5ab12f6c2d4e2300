package session_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// newReads is a world on PostgreSQL, since reads are its queries.
func newReads(t *testing.T) (*world, *postgres) {
	t.Parallel()
	p := newPostgres(t)
	return newWorld(p), p
}

func (w *world) get(t testing.TB, user string, id uuid.UUID) session.View {
	t.Helper()
	v, err := w.Get(t.Context(), user, id)
	require.NoError(t, err)
	return v
}

func TestGet(t *testing.T) {
	w, p := newReads(t)
	id := w.group(t, session.Group{Title: "Trip"}, "alice", "bob")
	v := w.get(t, "bob", id)
	require.Zero(t, v.Unread)
	require.EqualValues(t, 1, v.Head())
	require.Equal(t, message.TypeMemberChange, v.Last.Type)

	p.send(t, id, "alice") // 2
	p.send(t, id, "alice") // 3
	p.send(t, id, "alice") // 4
	v = w.get(t, "bob", id)
	require.EqualValues(t, 3, v.Unread)
	require.EqualValues(t, 4, v.Head())
	require.EqualValues(t, 4, v.Last.Seq)
	require.Equal(t, "alice", v.Last.SenderID)
	require.Equal(t, p.entries(t, id)[3], v.Last)
	require.False(t, v.LastReadApart)
	require.Zero(t, w.get(t, "alice", id).Unread)

	// Read out of order, deleted for oneself, the watermark, the line of deletion.
	p.exec(t, `INSERT INTO msg_state (user_id, session_id, seq_id, msg_id, is_read, is_delete)
		VALUES ('bob', $1, 4, gen_random_uuid(), true, true)`, id)
	v = w.get(t, "bob", id)
	require.EqualValues(t, 2, v.Unread)
	require.True(t, v.LastReadApart)
	require.True(t, v.LastDeletedApart)
	p.exec(t, `UPDATE user_to_session SET read_seq = 2 WHERE user_id = 'bob' AND session_id = $1`, id)
	require.EqualValues(t, 1, w.get(t, "bob", id).Unread)
	p.exec(t, `UPDATE user_to_session SET deleted_to_seq = 4 WHERE user_id = 'bob' AND session_id = $1`, id)
	require.Zero(t, w.get(t, "bob", id).Unread)

	// The past that a new member is shown counts as read.
	_, _, err := w.Update(t.Context(), as("alice"), id, session.GroupPatch{HistoryVisible: ptr(true)}) // 5
	require.NoError(t, err)
	w.addUsers(t, "carol")
	_, err = w.AddMembers(t.Context(), as("alice"), id, []string{"carol"}) // 6
	require.NoError(t, err)
	require.Zero(t, w.get(t, "carol", id).Unread)
	p.send(t, id, "alice") // 7
	require.EqualValues(t, 1, w.get(t, "carol", id).Unread)
}

func TestGetNothing(t *testing.T) {
	w, p := newReads(t)
	id := w.group(t, session.Group{}, "alice")
	w.addUsers(t, "bob", "eve")
	direct, low, high := session.DirectID("alice", "bob")
	p.exec(t, `INSERT INTO session (session_id, kind, owner_id, direct_low, direct_high, member_count, created_at)
		VALUES ($1, 1, $2, $2, $3, 2, now())`, direct, low, high)
	p.exec(t, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		VALUES ('alice', $1, 1, 1, 1), ('bob', $1, 1, 1, 1)`, direct)
	for _, c := range []struct {
		user string
		id   uuid.UUID
	}{{"eve", id}, {"eve", uuid.New()}, {"alice", uuid.New()}, {"alice", uuid.Nil}, {"alice", uuid.Max}, {"alice", direct}} {
		_, err := w.Get(t.Context(), c.user, c.id)
		require.Equal(t, session.Unavailable, err)
		_, err = w.View(t.Context(), c.user, c.id)
		require.Equal(t, session.Unavailable, err)
		_, _, err = w.Authorize(t.Context(), c.user, c.id, session.Read)
		require.Equal(t, session.Unavailable, err)
		_, _, err = w.Members(t.Context(), c.user, c.id, "", 0)
		require.Equal(t, session.Unavailable, err)
		_, err = w.UpdateMembership(t.Context(), as(c.user), c.id, session.OwnSettings{Pinned: ptr(true)})
		require.Equal(t, session.Unavailable, err)
	}
	views, _, err := w.List(t.Context(), "alice", uuid.Nil, true, 0)
	require.NoError(t, err)
	require.Len(t, views, 1, "a direct session without messages is listed")
}

func TestGetDirect(t *testing.T) {
	w, p := newReads(t)
	w.addUsers(t, "alice", "bob")
	id := p.direct(t, "bob", "alice")
	v, err := w.View(t.Context(), "alice", id)
	require.NoError(t, err)
	require.Equal(t, "bob", v.GetPeerUserId())
	require.EqualValues(t, 1, v.GetUnread())
	require.EqualValues(t, 1, v.GetHeadSeq())
	require.Equal(t, "epoch-1", v.GetEpoch())
	v, err = w.View(t.Context(), "bob", id)
	require.NoError(t, err)
	require.Equal(t, "alice", v.GetPeerUserId())
	require.Zero(t, v.GetUnread())
}

// Who has left sees the session as far as it can still be seen: nothing that came later shows.
func TestGetAfterLeaving(t *testing.T) {
	w, p := newReads(t)
	id := w.group(t, session.Group{Title: "before"}, "alice", "bob", "carol")
	p.send(t, id, "alice") // 2
	cut, err := w.RemoveMember(t.Context(), as("alice"), id, "bob")
	require.NoError(t, err)
	_, _, err = w.Update(t.Context(), as("alice"), id, session.GroupPatch{Title: ptr("after"), AvatarURL: ptr("https://later.example")})
	require.NoError(t, err)
	p.send(t, id, "alice")

	v := w.get(t, "bob", id)
	require.Equal(t, cut, v.Head())
	require.Equal(t, cut, v.Last.Seq)
	require.Zero(t, v.Unread)
	require.Empty(t, v.Session.Title)
	require.Empty(t, v.Session.AvatarURL)
	require.Zero(t, v.Session.MemberCount)
	require.Equal(t, cut, v.Session.LastSeq)
	out := v.Proto("e")
	require.Equal(t, cut, out.GetHeadSeq())
	require.Equal(t, cut, out.GetMembership().GetLeftSeq())
	require.Zero(t, out.GetMembership().GetRole())

	_, _, err = w.Members(t.Context(), "bob", id, "", 0)
	require.Equal(t, session.Unavailable, err)
	_, err = w.UpdateMembership(t.Context(), as("bob"), id, session.OwnSettings{Pinned: ptr(true)})
	require.Equal(t, session.Unavailable, err)
	m, s, err := w.Authorize(t.Context(), "bob", id, session.Read)
	require.NoError(t, err)
	require.False(t, m.Active())
	require.Equal(t, cut, m.Visible.Last(s.LastSeq))
}

func TestList(t *testing.T) {
	w, p := newReads(t)
	var ids, left []uuid.UUID
	for i := range 12 {
		id := w.group(t, session.Group{Title: fmt.Sprint(i)}, "alice", "bob")
		for range i {
			p.send(t, id, "alice")
		}
		if i%4 == 3 {
			_, err := w.Leave(t.Context(), as("bob"), id)
			require.NoError(t, err)
			left = append(left, id)
			continue
		}
		ids = append(ids, id)
	}
	w.group(t, session.Group{}, "alice")
	byID := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(ids, byID)

	list := func(includeLeft bool, limit int) (got []uuid.UUID) {
		after, more := uuid.Nil, true
		for more {
			var views []session.View
			var err error
			views, more, err = w.List(t.Context(), "bob", after, includeLeft, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(views), limit)
			for _, v := range views {
				require.Equal(t, w.get(t, "bob", v.Session.ID), v)
				got = append(got, v.Session.ID)
			}
			if more {
				after = views[len(views)-1].Session.ID
			}
		}
		return got
	}
	for _, limit := range []int{1, 4, 9, 200} {
		require.Equal(t, ids, list(false, limit))
	}
	all := slices.Concat(ids, left)
	slices.SortFunc(all, byID)
	require.Equal(t, all, list(true, 5))

	views, more, err := w.List(t.Context(), "bob", uuid.Max, false, 5)
	require.NoError(t, err)
	require.Empty(t, views)
	require.False(t, more)
}

func TestMembers(t *testing.T) {
	w, p := newReads(t)
	id := w.group(t, session.Group{}, "b", "a", "B", "ä", "c")
	_, err := w.RemoveMember(t.Context(), as("b"), id, "c")
	require.NoError(t, err)
	p.send(t, id, "a")
	_, err = w.SetMember(t.Context(), as("b"), id, "ä", session.Standing{Muted: ptr(true)})
	require.NoError(t, err)

	members, more, err := w.Members(t.Context(), "a", id, "", 0)
	require.NoError(t, err)
	require.False(t, more)
	require.Equal(t, []session.Member{
		{UserID: "B", DisplayName: "B", Role: session.RoleMember, JoinedSeq: 1},
		{UserID: "a", DisplayName: "A", Role: session.RoleMember, JoinedSeq: 1, ReadSeq: 3},
		{UserID: "b", DisplayName: "B", Role: session.RoleOwner, JoinedSeq: 1},
		{UserID: "ä", DisplayName: p.upper(t, "ä"), Role: session.RoleMember, JoinedSeq: 1, Muted: true},
	}, members)

	page, more, err := w.Members(t.Context(), "a", id, "B", 2)
	require.NoError(t, err)
	require.True(t, more)
	require.Equal(t, members[1:3], page)
	page, more, err = w.Members(t.Context(), "a", id, "b", 2)
	require.NoError(t, err)
	require.False(t, more)
	require.Equal(t, members[3:], page)

	ids, err := w.MemberIDs(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, []string{"B", "a", "b", "ä"}, ids)
	heads, err := w.Heads(t.Context(), []uuid.UUID{id, uuid.New()})
	require.NoError(t, err)
	require.Equal(t, map[uuid.UUID]int64{id: 4}, heads)
}

// upper is what the database makes of a letter; it depends on its locale.
func (p *postgres) upper(t testing.TB, s string) (out string) {
	t.Helper()
	require.NoError(t, p.pool.QueryRow(t.Context(), `SELECT upper($1::text)`, s).Scan(&out))
	return out
}

func TestUpdateMembership(t *testing.T) {
	w, p := newReads(t)
	id := w.group(t, session.Group{Title: "t"}, "alice", "bob")
	noted := func() int64 {
		return p.number(t, `SELECT count(*) FROM relation_change WHERE kind = 4 AND user_id = 'bob' AND other_id = $1`, id.String())
	}
	before := noted()
	m, err := w.UpdateMembership(t.Context(), as("bob"), id, session.OwnSettings{Pinned: ptr(true), NotificationsMuted: ptr(true)})
	require.NoError(t, err)
	require.True(t, m.Pinned)
	require.True(t, m.NotificationsMuted)
	require.False(t, m.Archived)
	require.Equal(t, before+1, noted(), "other nodes cannot know")
	told := w.told.take()
	require.Len(t, told, 1)
	require.Equal(t, "bob", told[0].user)
	require.Equal(t, "bob-phone", told[0].except)
	s := told[0].event.GetSession().GetSession()
	require.Equal(t, id.String(), s.GetSessionId())
	require.Equal(t, "t", s.GetTitle())
	require.Equal(t, "epoch-1", s.GetEpoch())
	require.True(t, s.GetMembership().GetIsPinned())

	for _, same := range []session.OwnSettings{{}, {Pinned: ptr(true), Archived: ptr(false)}} {
		m, err = w.UpdateMembership(t.Context(), as("bob"), id, same)
		require.NoError(t, err)
		require.True(t, m.Pinned)
		require.Equal(t, before+1, noted())
		require.Empty(t, w.told.take())
	}
	m, err = w.UpdateMembership(t.Context(), as("bob"), id, session.OwnSettings{Pinned: ptr(false), Archived: ptr(true)})
	require.NoError(t, err)
	require.False(t, m.Pinned)
	require.True(t, m.Archived)
	require.True(t, m.NotificationsMuted)
	require.Len(t, w.entries(t, id), 1, "own settings are no entry")
	require.False(t, w.get(t, "alice", id).Member.Archived)
}
