package rpc

import (
	"cmp"
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/messaging"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// MessageServer implements MessageService.
type MessageServer struct {
	Messages *messaging.Service
	States   stream.States
	Epoch    stream.Epoch
}

// SendMessage implements MessageService.
func (s *MessageServer) SendMessage(ctx context.Context, req *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
	out, err := s.Messages.Send(ctx, actor(ctx), []messaging.Outgoing{outgoing(req)})
	if err != nil {
		return nil, err
	}
	if out[0].Err != nil {
		return nil, out[0].Err
	}
	return s.receipt(out[0].Receipt), nil
}

// SendMessages implements MessageService.
func (s *MessageServer) SendMessages(ctx context.Context, req *parleyv1.SendMessagesRequest) (*parleyv1.SendMessagesResponse, error) {
	in := make([]messaging.Outgoing, len(req.GetMessages()))
	for i, m := range req.GetMessages() {
		in[i] = outgoing(m)
	}
	out, err := s.Messages.Send(ctx, actor(ctx), in)
	if err != nil {
		return nil, err
	}
	res := &parleyv1.SendMessagesResponse{Results: make([]*parleyv1.SendMessageResult, len(out))}
	for i, o := range out {
		if o.Err != nil {
			res.Results[i] = &parleyv1.SendMessageResult{Result: &parleyv1.SendMessageResult_Error{Error: itemError(ctx, o.Err)}}
			continue
		}
		res.Results[i] = &parleyv1.SendMessageResult{Result: &parleyv1.SendMessageResult_Sent{Sent: s.receipt(o.Receipt)}}
	}
	return res, nil
}

// RecallMessage implements MessageService.
func (s *MessageServer) RecallMessage(ctx context.Context, req *parleyv1.RecallMessageRequest) (*parleyv1.RecallMessageResponse, error) {
	seq, err := s.Messages.Recall(ctx, actor(ctx), uuid.MustParse(req.GetSessionId()), req.GetSeq())
	if err != nil {
		return nil, err
	}
	return &parleyv1.RecallMessageResponse{Seq: seq}, nil
}

// ListMessages implements MessageService.
func (s *MessageServer) ListMessages(ctx context.Context, req *parleyv1.ListMessagesRequest) (*parleyv1.ListMessagesResponse, error) {
	var at messaging.Position
	switch p := req.GetPosition().(type) {
	case *parleyv1.ListMessagesRequest_AfterSeq:
		at.After = &p.AfterSeq
	case *parleyv1.ListMessagesRequest_BeforeSeq:
		at.Before = &p.BeforeSeq
	}
	user := PrincipalFrom(ctx).UserID
	page, err := s.Messages.List(ctx, user, uuid.MustParse(req.GetSessionId()), at, int64(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	messages, err := s.withStates(ctx, user, page)
	if err != nil {
		return nil, err
	}
	return &parleyv1.ListMessagesResponse{Messages: messages, HeadSeq: page.Head, HasMore: page.More}, nil
}

// GetMessage implements MessageService.
func (s *MessageServer) GetMessage(ctx context.Context, req *parleyv1.GetMessageRequest) (*parleyv1.GetMessageResponse, error) {
	user := PrincipalFrom(ctx).UserID
	e, err := s.Messages.Get(ctx, user, uuid.MustParse(req.GetSessionId()), req.GetSeq())
	if err != nil {
		return nil, err
	}
	messages, err := s.withStates(ctx, user, messaging.Page{Entries: []message.Entry{e}})
	if err != nil {
		return nil, err
	}
	return &parleyv1.GetMessageResponse{Message: messages[0]}, nil
}

// withStates puts the user's own states on a page.
func (s *MessageServer) withStates(ctx context.Context, userID string, page messaging.Page) ([]*parleyv1.Message, error) {
	if len(page.Entries) == 0 {
		return nil, nil
	}
	stateOf, err := s.States.StatesOf(ctx, userID, page.Ranges())
	if err != nil {
		return nil, err
	}
	out := make([]*parleyv1.Message, len(page.Entries))
	for i, e := range page.Entries {
		out[i] = wire.MessageFor(e, stateOf(&wire.Entry{Entry: e}))
	}
	return out, nil
}

func (s *MessageServer) receipt(r message.Receipt) *parleyv1.SendMessageResponse {
	return &parleyv1.SendMessageResponse{SessionId: r.SessionID.String(), MessageId: r.MessageID.String(), Seq: r.Seq,
		Epoch: cmp.Or(r.Epoch, s.Epoch.Current()), CreatedAt: timestamppb.New(r.CreatedAt)}
}

func outgoing(m *parleyv1.SendMessageRequest) messaging.Outgoing {
	out := messaging.Outgoing{Peer: m.GetPeerUserId(), MessageID: uuid.MustParse(m.GetMessageId()), Content: m.GetContent(),
		ReplyTo: m.GetReplyToSeq(), Mentions: m.GetMentions()}
	if id := m.GetSessionId(); id != "" {
		out.SessionID = uuid.MustParse(id)
	}
	return out
}

// actor is the caller as the domain knows them.
func actor(ctx context.Context) session.Actor {
	p := PrincipalFrom(ctx)
	return session.Actor{UserID: p.UserID, DeviceID: p.DeviceID}
}
