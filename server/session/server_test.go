package session_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/rpc"
	"github.com/parley-im/parley/server/session"
)

// newServer is the service as its transport offers it, on PostgreSQL.
func newServer(t *testing.T) (*rpc.SessionServer, *world, *postgres) {
	t.Parallel()
	p := newPostgres(t)
	w := newWorld(p)
	return &rpc.SessionServer{Sessions: w.Service, Epoch: epoch{}}, w, p
}

// from is the context of a call by a user.
func from(t *testing.T, user string) context.Context {
	return rpc.WithPrincipal(t.Context(), auth.Principal{UserID: user, DeviceID: user + "-phone"})
}

func TestServerLifeOfAGroup(t *testing.T) {
	s, w, p := newServer(t)
	w.addUsers(t, "alice", "bob", "carol")
	req := &parleyv1.CreateSessionRequest{
		Group: &parleyv1.Group{Title: "Trip", AvatarUrl: "https://x.example/a", HistoryVisible: true,
			SendRole: parleyv1.MemberRole_MEMBER_ROLE_ADMIN},
		MemberIds: []string{"bob"}, RequestId: uuid.NewString(),
	}
	made, err := s.CreateSession(from(t, "alice"), req)
	require.NoError(t, err)
	out := made.GetSession()
	id := out.GetSessionId()
	require.Equal(t, parleyv1.SessionKind_SESSION_KIND_GROUP, out.GetKind())
	require.Equal(t, "Trip", out.GetTitle())
	require.Equal(t, "https://x.example/a", out.GetAvatarUrl())
	require.True(t, out.GetHistoryVisible())
	require.Equal(t, parleyv1.MemberRole_MEMBER_ROLE_ADMIN, out.GetSendRole())
	require.EqualValues(t, 1, out.GetHeadSeq())
	require.EqualValues(t, 2, out.GetMemberCount())
	require.Equal(t, "epoch-1", out.GetEpoch())
	require.Equal(t, parleyv1.MemberRole_MEMBER_ROLE_OWNER, out.GetMembership().GetRole())
	require.EqualValues(t, 1, out.GetMembership().GetJoinedSeq())
	require.EqualValues(t, 1, out.GetMembership().GetVisibleFromSeq())
	again, err := s.CreateSession(from(t, "alice"), req)
	require.NoError(t, err)
	require.Equal(t, id, again.GetSession().GetSessionId())

	title, role := "Trip 2", parleyv1.MemberRole_MEMBER_ROLE_MEMBER
	changed, err := s.UpdateSession(from(t, "alice"), &parleyv1.UpdateSessionRequest{SessionId: id, Title: &title, SendRole: &role})
	require.NoError(t, err)
	require.EqualValues(t, 2, changed.GetSeq())
	require.Equal(t, "Trip 2", changed.GetSession().GetTitle())
	require.Equal(t, role, changed.GetSession().GetSendRole())
	require.Equal(t, "https://x.example/a", changed.GetSession().GetAvatarUrl())

	added, err := s.AddMembers(from(t, "alice"), &parleyv1.AddMembersRequest{SessionId: id, UserIds: []string{"carol"}})
	require.NoError(t, err)
	require.EqualValues(t, 3, added.GetSeq())
	muted := true
	set, err := s.SetMemberRole(from(t, "alice"), &parleyv1.SetMemberRoleRequest{SessionId: id, UserId: "bob",
		Role: parleyv1.MemberRole_MEMBER_ROLE_ADMIN, IsMuted: &muted})
	require.NoError(t, err)
	require.EqualValues(t, 5, set.GetSeq())
	members, err := s.ListMembers(from(t, "bob"), &parleyv1.ListMembersRequest{SessionId: id, Limit: 2})
	require.NoError(t, err)
	require.Len(t, members.GetMembers(), 2)
	require.Equal(t, "bob", members.GetMembers()[1].GetUserId())
	require.Equal(t, "BOB", members.GetMembers()[1].GetDisplayName())
	require.Equal(t, parleyv1.MemberRole_MEMBER_ROLE_ADMIN, members.GetMembers()[1].GetRole())
	require.True(t, members.GetMembers()[1].GetIsMuted())
	members, err = s.ListMembers(from(t, "bob"), &parleyv1.ListMembersRequest{SessionId: id, Limit: 2, PageToken: members.GetNextPageToken()})
	require.NoError(t, err)
	require.Len(t, members.GetMembers(), 1)
	require.Equal(t, "carol", members.GetMembers()[0].GetUserId())
	require.Empty(t, members.GetNextPageToken())

	pinned := true
	own, err := s.UpdateMembership(from(t, "bob"), &parleyv1.UpdateMembershipRequest{SessionId: id, IsPinned: &pinned})
	require.NoError(t, err)
	require.True(t, own.GetMembership().GetIsPinned())
	require.True(t, own.GetMembership().GetIsMuted())

	left, err := s.LeaveSession(from(t, "carol"), &parleyv1.LeaveSessionRequest{SessionId: id})
	require.NoError(t, err)
	require.EqualValues(t, 6, left.GetSeq())
	cut, err := s.RemoveMember(from(t, "alice"), &parleyv1.RemoveMemberRequest{SessionId: id, UserId: "bob"})
	require.NoError(t, err)
	require.EqualValues(t, 7, cut.GetSeq())
	require.EqualValues(t, 7, p.number(t, `SELECT last_seq FROM session`))
	_, err = s.GetSession(from(t, "eve"), &parleyv1.GetSessionRequest{SessionId: id})
	requireRefused(t, refusal.SessionUnavailable, err)
}

// The last message comes with what it is to the caller, and without its body once they deleted it for themself.
func TestServerLastMessage(t *testing.T) {
	s, w, p := newServer(t)
	id := w.group(t, session.Group{}, "alice", "bob")
	seq := p.send(t, id, "alice")
	last := func(user string) *parleyv1.Message {
		got, err := s.GetSession(from(t, user), &parleyv1.GetSessionRequest{SessionId: id.String()})
		require.NoError(t, err)
		require.Equal(t, seq, got.GetSession().GetHeadSeq())
		list, err := s.ListSessions(from(t, user), &parleyv1.ListSessionsRequest{})
		require.NoError(t, err)
		require.Len(t, list.GetSessions(), 1)
		require.Equal(t, got.GetSession().String(), list.GetSessions()[0].String())
		return got.GetSession().GetLastMessage()
	}
	require.Equal(t, "hello", last("bob").GetContent().GetText().GetBody())
	require.False(t, last("bob").GetState().GetIsRead())
	require.True(t, last("alice").GetState().GetIsRead())
	require.Equal(t, seq, last("alice").GetSeq())

	p.exec(t, `INSERT INTO msg_state (user_id, session_id, seq_id, msg_id, is_read) VALUES ('bob', $1, $2, gen_random_uuid(), true)`, id, seq)
	require.True(t, last("bob").GetState().GetIsRead())
	require.NotNil(t, last("bob").GetContent())
	p.exec(t, `UPDATE msg_state SET is_delete = true`)
	require.True(t, last("bob").GetState().GetIsDeleted())
	require.Nil(t, last("bob").GetContent())
	require.NotNil(t, last("alice").GetContent())
}

func TestServerPageTokens(t *testing.T) {
	s, w, _ := newServer(t)
	for range 3 {
		w.group(t, session.Group{}, "alice", "bob")
	}
	page, err := s.ListSessions(from(t, "alice"), &parleyv1.ListSessionsRequest{Limit: 1})
	require.NoError(t, err)
	require.NotEmpty(t, page.GetNextPageToken())
	next, err := s.ListSessions(from(t, "alice"), &parleyv1.ListSessionsRequest{Limit: 2, PageToken: page.GetNextPageToken()})
	require.NoError(t, err)
	require.Len(t, next.GetSessions(), 2)
	require.Empty(t, next.GetNextPageToken())

	_, err = s.ListSessions(from(t, "alice"), &parleyv1.ListSessionsRequest{IncludeLeft: true, PageToken: page.GetNextPageToken()})
	requireRefused(t, refusal.PageTokenInvalid, err)
	_, err = s.ListSessions(from(t, "bob"), &parleyv1.ListSessionsRequest{PageToken: page.GetNextPageToken()})
	requireRefused(t, refusal.PageTokenInvalid, err)
	members, err := s.ListMembers(from(t, "alice"), &parleyv1.ListMembersRequest{SessionId: page.GetSessions()[0].GetSessionId(), Limit: 1})
	require.NoError(t, err)
	_, err = s.ListMembers(from(t, "alice"), &parleyv1.ListMembersRequest{
		SessionId: next.GetSessions()[0].GetSessionId(), PageToken: members.GetNextPageToken()})
	requireRefused(t, refusal.PageTokenInvalid, err)
	_, err = s.ListMembers(from(t, "alice"), &parleyv1.ListMembersRequest{
		SessionId: page.GetSessions()[0].GetSessionId(), PageToken: page.GetNextPageToken()})
	requireRefused(t, refusal.PageTokenInvalid, err)
}
