package rpc

import (
	"context"
	"strconv"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/page"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/wire"
)

// SessionServer implements SessionService.
type SessionServer struct {
	Sessions *session.Service
	Epoch    session.Epoch
}

// CreateSession implements SessionService.
func (s *SessionServer) CreateSession(ctx context.Context, req *parleyv1.CreateSessionRequest) (*parleyv1.CreateSessionResponse, error) {
	var request *uuid.UUID
	if id := req.GetRequestId(); id != "" {
		key := uuid.MustParse(id)
		request = &key
	}
	g := req.GetGroup()
	v, err := s.Sessions.Create(ctx, actor(ctx), request, session.Group{
		Title: g.GetTitle(), AvatarURL: g.GetAvatarUrl(), HistoryVisible: g.GetHistoryVisible(),
		SendRole: session.Role(g.GetSendRole()), //nolint:gosec // a defined value
	}, req.GetMemberIds())
	if err != nil {
		return nil, err
	}
	return &parleyv1.CreateSessionResponse{Session: v.Proto(s.Epoch.Current())}, nil
}

// GetSession implements SessionService.
func (s *SessionServer) GetSession(ctx context.Context, req *parleyv1.GetSessionRequest) (*parleyv1.GetSessionResponse, error) {
	v, err := s.Sessions.Get(ctx, PrincipalFrom(ctx).UserID, uuid.MustParse(req.GetSessionId()))
	if err != nil {
		return nil, err
	}
	return &parleyv1.GetSessionResponse{Session: s.withLast(v)}, nil
}

// ListSessions implements SessionService.
func (s *SessionServer) ListSessions(ctx context.Context, req *parleyv1.ListSessionsRequest) (*parleyv1.ListSessionsResponse, error) {
	user := PrincipalFrom(ctx).UserID
	listing := page.Sessions.For(user, strconv.FormatBool(req.GetIncludeLeft()))
	var after uuid.UUID
	if err := page.Decode(listing, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	views, more, err := s.Sessions.List(ctx, user, after, req.GetIncludeLeft(), int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	res := &parleyv1.ListSessionsResponse{Sessions: make([]*parleyv1.Session, len(views))}
	for i, v := range views {
		res.Sessions[i] = s.withLast(v)
	}
	if more {
		res.NextPageToken = page.Encode(listing, views[len(views)-1].Session.ID)
	}
	return res, nil
}

// UpdateSession implements SessionService.
func (s *SessionServer) UpdateSession(ctx context.Context, req *parleyv1.UpdateSessionRequest) (*parleyv1.UpdateSessionResponse, error) {
	p := session.GroupPatch{Title: req.Title, AvatarURL: req.AvatarUrl, HistoryVisible: req.HistoryVisible}
	if req.SendRole != nil {
		role := session.Role(req.GetSendRole()) //nolint:gosec // a defined value
		p.SendRole = &role
	}
	seq, v, err := s.Sessions.Update(ctx, actor(ctx), uuid.MustParse(req.GetSessionId()), p)
	if err != nil {
		return nil, err
	}
	return &parleyv1.UpdateSessionResponse{Seq: seq, Session: v.Proto(s.Epoch.Current())}, nil
}

// AddMembers implements SessionService.
func (s *SessionServer) AddMembers(ctx context.Context, req *parleyv1.AddMembersRequest) (*parleyv1.AddMembersResponse, error) {
	seq, err := s.Sessions.AddMembers(ctx, actor(ctx), uuid.MustParse(req.GetSessionId()), req.GetUserIds())
	if err != nil {
		return nil, err
	}
	return &parleyv1.AddMembersResponse{Seq: seq}, nil
}

// RemoveMember implements SessionService.
func (s *SessionServer) RemoveMember(ctx context.Context, req *parleyv1.RemoveMemberRequest) (*parleyv1.RemoveMemberResponse, error) {
	seq, err := s.Sessions.RemoveMember(ctx, actor(ctx), uuid.MustParse(req.GetSessionId()), req.GetUserId())
	if err != nil {
		return nil, err
	}
	return &parleyv1.RemoveMemberResponse{Seq: seq}, nil
}

// LeaveSession implements SessionService.
func (s *SessionServer) LeaveSession(ctx context.Context, req *parleyv1.LeaveSessionRequest) (*parleyv1.LeaveSessionResponse, error) {
	seq, err := s.Sessions.Leave(ctx, actor(ctx), uuid.MustParse(req.GetSessionId()))
	if err != nil {
		return nil, err
	}
	return &parleyv1.LeaveSessionResponse{Seq: seq}, nil
}

// SetMemberRole implements SessionService.
func (s *SessionServer) SetMemberRole(ctx context.Context, req *parleyv1.SetMemberRoleRequest) (*parleyv1.SetMemberRoleResponse, error) {
	to := session.Standing{Role: session.Role(req.GetRole()), Muted: req.IsMuted} //nolint:gosec // a defined value
	seq, err := s.Sessions.SetMember(ctx, actor(ctx), uuid.MustParse(req.GetSessionId()), req.GetUserId(), to)
	if err != nil {
		return nil, err
	}
	return &parleyv1.SetMemberRoleResponse{Seq: seq}, nil
}

// UpdateMembership implements SessionService.
func (s *SessionServer) UpdateMembership(ctx context.Context, req *parleyv1.UpdateMembershipRequest) (*parleyv1.UpdateMembershipResponse, error) {
	m, err := s.Sessions.UpdateMembership(ctx, actor(ctx), uuid.MustParse(req.GetSessionId()), session.OwnSettings{
		NotificationsMuted: req.NotificationsMuted, Pinned: req.IsPinned, Archived: req.IsArchived,
	})
	if err != nil {
		return nil, err
	}
	return &parleyv1.UpdateMembershipResponse{Membership: m.Proto()}, nil
}

// ListMembers implements SessionService.
func (s *SessionServer) ListMembers(ctx context.Context, req *parleyv1.ListMembersRequest) (*parleyv1.ListMembersResponse, error) {
	id := uuid.MustParse(req.GetSessionId())
	listing := page.Members.For(id.String())
	var after string
	if err := page.Decode(listing, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	members, more, err := s.Sessions.Members(ctx, PrincipalFrom(ctx).UserID, id, after, int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	res := &parleyv1.ListMembersResponse{Members: make([]*parleyv1.Member, len(members))}
	for i, m := range members {
		res.Members[i] = m.Proto()
	}
	if more {
		res.NextPageToken = page.Encode(listing, members[len(members)-1].UserID)
	}
	return res, nil
}

// withLast is the view with its last message, on which is what the message is to the user.
func (s *SessionServer) withLast(v session.View) *parleyv1.Session {
	out := v.Proto(s.Epoch.Current())
	e := v.Last
	if e.Seq == 0 {
		return out
	}
	of := state.Of(
		state.View{SessionID: e.SessionID, ReadSeq: v.Member.ReadSeq, DeletedToSeq: v.Member.DeletedToSeq},
		[]state.Exception{{SessionID: e.SessionID, Seq: e.Seq, Read: v.LastReadApart, Deleted: v.LastDeletedApart}})
	read, deleted := of(e.Seq, e.SenderID == v.Member.UserID, e.Type.Countable() && !e.IsDeleted)
	out.LastMessage = wire.MessageFor(e, &parleyv1.MessageState{IsRead: read, IsDeleted: deleted})
	return out
}
