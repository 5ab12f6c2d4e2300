package rpc

import (
	"context"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/presence"
)

// PresenceServer implements PresenceService.
type PresenceServer struct {
	Presences *presence.Service
}

// GetPresence implements PresenceService.
func (s *PresenceServer) GetPresence(ctx context.Context, req *parleyv1.GetPresenceRequest) (*parleyv1.GetPresenceResponse, error) {
	p := PrincipalFrom(ctx)
	found, err := s.Presences.Get(ctx, p.UserID, req.GetUserIds())
	if err != nil {
		return nil, err
	}
	return &parleyv1.GetPresenceResponse{Presences: presences(found, p.UserID)}, nil
}

// WatchPresence implements PresenceService.
func (s *PresenceServer) WatchPresence(ctx context.Context, req *parleyv1.WatchPresenceRequest) (*parleyv1.WatchPresenceResponse, error) {
	p := PrincipalFrom(ctx)
	found, err := s.Presences.Watch(ctx, p.UserID, p.DeviceID, req.GetUserIds())
	if err != nil {
		return nil, err
	}
	return &parleyv1.WatchPresenceResponse{Presences: presences(found, p.UserID)}, nil
}

func presences(found []presence.Presence, viewer string) []*parleyv1.Presence {
	out := make([]*parleyv1.Presence, len(found))
	for i, p := range found {
		out[i] = p.Proto(viewer)
	}
	return out
}
