package roster

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/device"
)

// Access is a device.GateStore that answers yes from the map, and asks the store for everything else.
type Access struct {
	Roster *Roster
	Store  device.GateStore
}

// Access implements device.GateStore.
func (a Access) Access(ctx context.Context, userID, deviceID string) (device.Access, error) {
	allowed, _, _ := a.Roster.Device(userID, deviceID)
	a.Roster.metrics.lookup("device", allowed)
	if allowed {
		return device.Access{Known: true}, nil
	}
	return a.Store.Access(ctx, userID, deviceID)
}

// SessionLister lists the sessions that a user is a member of. Implemented by storage.
type SessionLister interface {
	ActiveSessionIDs(ctx context.Context, userID string) ([]uuid.UUID, error)
}

// ActiveSessions answers ActiveSessionIDs of stream.Sessions from the map, and asks the store where the map is not fresh
// or knows of none. Streams stand a list that is a poll old: they read their positions in PostgreSQL afterwards, where
// sessions left drop out and those joined in between come in, and are told of every membership that the feed finds.
type ActiveSessions struct {
	Roster *Roster
	Store  SessionLister
}

// ActiveSessionIDs returns the sessions that the user is a member of, in no order.
func (a ActiveSessions) ActiveSessionIDs(ctx context.Context, userID string) ([]uuid.UUID, error) {
	ids, fresh := a.Roster.Sessions(userID)
	hit := fresh && len(ids) > 0
	a.Roster.metrics.lookup("sessions", hit)
	if hit {
		return ids, nil
	}
	return a.Store.ActiveSessionIDs(ctx, userID)
}
