package storage

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/reading"
)

// ReadAudience implements reading.Audience.
type ReadAudience struct{ *DB }

// ReadAudience implements reading.Audience.
func (s ReadAudience) ReadAudience(ctx context.Context, positions []reading.Position, maxMembers int) ([][]string, error) {
	p := sqlc.ReadAudienceParams{UserIds: make([]string, len(positions)), SessionIds: make([]uuid.UUID, len(positions)),
		MaxMembers: int32(maxMembers)} //nolint:gosec // a small constant
	for i, at := range positions {
		p.UserIds[i], p.SessionIds[i] = at.UserID, at.SessionID
	}
	rows, err := s.q.ReadAudience(ctx, s.pool, p)
	if err != nil {
		return nil, Fault(err)
	}
	out := make([][]string, len(positions))
	for _, r := range rows {
		out[r.Place-1] = append(out[r.Place-1], r.UserID)
	}
	return out, nil
}
