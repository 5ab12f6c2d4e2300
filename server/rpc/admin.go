package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/account"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/webhook"
)

// NodeStats are the live figures of this node. Safe for concurrent use.
type NodeStats interface {
	// Streams is the number of live streams.
	Streams() int64
	// QueueBytes is the number of bytes that wait in the streams' queues.
	QueueBytes() int64
	// MessagesSent is how many messages this node has committed since its start.
	MessagesSent() int64
}

// AdminServer implements AdminService.
type AdminServer struct {
	Accounts *account.Service
	Tokens   *device.Tokens
	Webhooks *webhook.Service
	Node     NodeStats
	Epoch    stream.Epoch
	// StartedAt is when this node started.
	StartedAt time.Time
	// Version is that of the server.
	Version string
}

// CreateToken implements AdminService.
func (s *AdminServer) CreateToken(ctx context.Context, req *parleyv1.CreateTokenRequest) (*parleyv1.CreateTokenResponse, error) {
	t, err := s.Tokens.Create(ctx, req.GetUserId(), req.GetDeviceId(), platform(req.GetPlatform()), req.GetTtl().AsDuration())
	if err != nil {
		return nil, err
	}
	return &parleyv1.CreateTokenResponse{Token: t.Text, ExpiresAt: timestamppb.New(t.ExpiresAt)}, nil
}

// UpsertUser implements AdminService.
func (s *AdminServer) UpsertUser(ctx context.Context, req *parleyv1.UpsertUserRequest) (*parleyv1.UpsertUserResponse, error) {
	u, err := s.Accounts.Upsert(ctx, req.GetUserId(), account.Profile{
		DisplayName: req.GetDisplayName(), AvatarURL: req.GetAvatarUrl(),
	})
	if err != nil {
		return nil, err
	}
	return &parleyv1.UpsertUserResponse{User: &parleyv1.User{
		UserId: u.ID, DisplayName: u.DisplayName, AvatarUrl: u.AvatarURL, DeactivatedAt: timestampOrNil(u.DeactivatedAt),
	}}, nil
}

// DeactivateUser implements AdminService.
func (s *AdminServer) DeactivateUser(ctx context.Context, req *parleyv1.DeactivateUserRequest) (*parleyv1.DeactivateUserResponse, error) {
	if err := s.Accounts.Deactivate(ctx, req.GetUserId()); err != nil {
		return nil, err
	}
	return &parleyv1.DeactivateUserResponse{}, nil
}

// GetStats implements AdminService.
func (s *AdminServer) GetStats(ctx context.Context, _ *parleyv1.GetStatsRequest) (*parleyv1.GetStatsResponse, error) {
	e, err := s.Accounts.Estimates(ctx)
	if err != nil {
		return nil, err
	}
	return &parleyv1.GetStatsResponse{
		Epoch: s.Epoch.Current(), UsersEstimate: e.Users, SessionsEstimate: e.Sessions, MessagesEstimate: e.Messages,
		Streams: s.Node.Streams(), QueueBytes: s.Node.QueueBytes(), MessagesSent: s.Node.MessagesSent(),
		StartedAt: timestamppb.New(s.StartedAt), Version: s.Version,
	}, nil
}
