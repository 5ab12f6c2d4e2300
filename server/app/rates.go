package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/rate"
	"github.com/parley-im/parley/server/rpc"
	"github.com/parley-im/parley/server/storage"
)

// rateLimiter returns the limiter of this node, which shares what it gives with the others where there is a Redis.
func (a *App) rateLimiter(life *epoch, reg prometheus.Registerer) *rate.Limiter {
	var board rate.Board
	if a.redis != nil {
		board = storage.NewRateBoard(a.redis, life.Current)
	}
	return rate.New(a.cfg.Rates, board, a.keeper.Breaker(), a.clock, reg)
}

// ratedGate bounds the calls of those whom the gate lets in.
type ratedGate struct {
	rpc.Gate
	rates *rate.Limiter
}

// Check implements rpc.Gate.
func (g ratedGate) Check(ctx context.Context, userID, deviceID string) error {
	if err := g.Gate.Check(ctx, userID, deviceID); err != nil {
		return err
	}
	return g.rates.Take(ctx, rate.Key{Rule: rate.CallsDevice, A: userID, B: deviceID})
}

// ratedSessions bounds how many groups a user makes. Those that are not made cost nothing.
type ratedSessions struct {
	*rpc.SessionServer
	rates *rate.Limiter
}

// CreateSession implements SessionService.
func (s ratedSessions) CreateSession(ctx context.Context, req *parleyv1.CreateSessionRequest) (*parleyv1.CreateSessionResponse, error) {
	key := rate.Key{Rule: rate.GroupsUser, A: rpc.PrincipalFrom(ctx).UserID}
	if err := s.rates.Take(ctx, key); err != nil {
		return nil, err
	}
	res, err := s.SessionServer.CreateSession(ctx, req)
	if err != nil {
		s.rates.Return(key)
	}
	return res, err
}

// ratedAddresses bounds the requests of an address.
type ratedAddresses struct{ rates *rate.Limiter }

// Admit implements rpc.Addresses.
func (r ratedAddresses) Admit(ctx context.Context, network string) error {
	return r.rates.Take(ctx, rate.Key{Rule: rate.CallsIP, A: network})
}
