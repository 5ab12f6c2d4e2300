package rpc

import (
	"context"
	"strconv"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/page"
	"github.com/parley-im/parley/server/state"
)

// StateServer implements StateService.
type StateServer struct {
	States *state.Service
}

// MarkRead implements StateService.
func (s *StateServer) MarkRead(ctx context.Context, req *parleyv1.MarkReadRequest) (*parleyv1.MarkReadResponse, error) {
	id := uuid.MustParse(req.GetSessionId())
	var v state.View
	var err error
	if len(req.GetSeqs()) > 0 {
		v, err = s.States.MarkRead(ctx, actor(ctx), id, req.GetSeqs())
	} else {
		v, err = s.States.MarkReadTo(ctx, actor(ctx), id, req.GetUpToSeq())
	}
	if err != nil {
		return nil, err
	}
	return &parleyv1.MarkReadResponse{ReadSeq: v.ReadSeq, Unread: v.Unread}, nil
}

// MarkUnread implements StateService.
func (s *StateServer) MarkUnread(ctx context.Context, req *parleyv1.MarkUnreadRequest) (*parleyv1.MarkUnreadResponse, error) {
	if err := s.States.MarkUnread(ctx, actor(ctx), uuid.MustParse(req.GetSessionId())); err != nil {
		return nil, err
	}
	return &parleyv1.MarkUnreadResponse{}, nil
}

// DeleteForMe implements StateService.
func (s *StateServer) DeleteForMe(ctx context.Context, req *parleyv1.DeleteForMeRequest) (*parleyv1.DeleteForMeResponse, error) {
	id := uuid.MustParse(req.GetSessionId())
	var v state.View
	var err error
	if len(req.GetSeqs()) > 0 {
		v, err = s.States.Delete(ctx, actor(ctx), id, req.GetSeqs())
	} else {
		v, err = s.States.DeleteTo(ctx, actor(ctx), id, req.GetUpToSeq())
	}
	if err != nil {
		return nil, err
	}
	return &parleyv1.DeleteForMeResponse{DeletedToSeq: v.DeletedToSeq, Unread: v.Unread}, nil
}

// ListStates implements StateService.
func (s *StateServer) ListStates(ctx context.Context, req *parleyv1.ListStatesRequest) (*parleyv1.ListStatesResponse, error) {
	p, err := s.States.List(ctx, PrincipalFrom(ctx).UserID, uuid.MustParse(req.GetSessionId()), req.GetAfterSeq(), int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	out := &parleyv1.ListStatesResponse{ReadSeq: p.ReadSeq, DeletedToSeq: p.DeletedToSeq}
	for _, st := range p.States {
		out.States = append(out.States, &parleyv1.SeqState{Seq: st.Seq, MessageId: st.MessageID.String(), IsRead: st.Read, IsDeleted: st.Deleted})
	}
	return out, nil
}

// ListReaders implements StateService.
func (s *StateServer) ListReaders(ctx context.Context, req *parleyv1.ListReadersRequest) (*parleyv1.ListReadersResponse, error) {
	listing := page.Readers.For(req.GetSessionId(), strconv.FormatInt(req.GetSeq(), 10))
	var after string
	if err := page.Decode(listing, req.GetPageToken(), &after); err != nil {
		return nil, err
	}
	r, err := s.States.Readers(ctx, PrincipalFrom(ctx).UserID, uuid.MustParse(req.GetSessionId()), req.GetSeq(), after, int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	out := &parleyv1.ListReadersResponse{Count: r.Count}
	for _, u := range r.Users {
		out.Readers = append(out.Readers, &parleyv1.Reader{UserId: u})
	}
	if r.More {
		out.NextPageToken = page.Encode(listing, r.Users[len(r.Users)-1])
	}
	return out, nil
}

// GetUnread implements StateService.
func (s *StateServer) GetUnread(ctx context.Context, req *parleyv1.GetUnreadRequest) (*parleyv1.GetUnreadResponse, error) {
	ids := make([]uuid.UUID, len(req.GetSessionIds()))
	for i, id := range req.GetSessionIds() {
		ids[i] = uuid.MustParse(id)
	}
	total, views, err := s.States.Unread(ctx, PrincipalFrom(ctx).UserID, ids)
	if err != nil {
		return nil, err
	}
	out := &parleyv1.GetUnreadResponse{Total: total}
	for _, v := range views {
		out.Sessions = append(out.Sessions, &parleyv1.SessionUnread{SessionId: v.SessionID.String(), Unread: v.Unread, MarkedUnread: v.MarkedUnread})
	}
	return out, nil
}
