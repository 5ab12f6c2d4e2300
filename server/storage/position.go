package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/stream"
)

// Positions tells where users and devices stand, and keeps how far devices have got.
type Positions struct{ *DB }

// ActiveSessionIDs implements stream.Sessions.
func (s Positions) ActiveSessionIDs(ctx context.Context, userID string) ([]uuid.UUID, error) {
	ids, err := s.q.PositionListActiveIDs(ctx, s.pool, userID)
	return ids, Fault(err)
}

// Positions implements stream.Sessions.
func (s Positions) Positions(ctx context.Context, userID, deviceID string, ids []uuid.UUID) ([]stream.Position, error) {
	rows, err := s.q.PositionList(ctx, s.pool, sqlc.PositionListParams{UserID: userID, DeviceID: deviceID, SessionIds: ids})
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]stream.Position, len(rows))
	for i, r := range rows {
		out[i] = stream.Position{SessionID: r.SessionID, Visible: visibility(r.Earlier, r.VisibleSeq, r.LeftSeq),
			Role: session.Role(r.Role), Active: r.LeftSeq == nil, JoinedSeq: r.JoinedSeq, DeletedToSeq: r.DeletedToSeq,
			Head: r.LastSeq, Settings: stream.Settings{Muted: r.IsMuted, NotificationsMuted: r.NotificationsMuted,
				Pinned: r.IsPinned, Archived: r.IsArchived}}
		out[i].Acked, out[i].HasCursor = r.AckedSeq, r.HasCursor
	}
	return out, nil
}

// visibility joins what a row says about what its user can see.
func visibility(earlier pgtype.Multirange[pgtype.Range[pgtype.Int8]], visibleSeq int64, leftSeq *int64) session.Visibility {
	out := make(session.Visibility, 0, len(earlier)+1)
	for _, r := range earlier { // PostgreSQL keeps them ascending, disjoint, and half-open: [lower, upper)
		out = append(out, session.Interval{From: r.Lower.Int64, To: r.Upper.Int64 - 1})
	}
	last := session.Interval{From: visibleSeq, To: session.Open}
	if leftSeq != nil {
		last.To = *leftSeq
	}
	return append(out, last)
}

// StartSync stores where a device starts and marks it as synced.
func (s Positions) StartSync(ctx context.Context, userID, deviceID string, at []stream.Cursor, now time.Time) error {
	p := sqlc.CursorUpsertManyParams{}
	for _, c := range at {
		p.UserIds = append(p.UserIds, userID)
		p.DeviceIds = append(p.DeviceIds, deviceID)
		p.SessionIds = append(p.SessionIds, c.SessionID)
		p.Seqs = append(p.Seqs, c.Seq)
	}
	return s.InTx(ctx, func(tx pgx.Tx) error {
		if err := s.q.CursorDeleteDevice(ctx, tx, sqlc.CursorDeleteDeviceParams{UserID: userID, DeviceID: deviceID}); err != nil {
			return err
		}
		if err := s.q.CursorUpsertMany(ctx, tx, p); err != nil {
			return err
		}
		return s.q.DeviceSetSynced(ctx, tx, sqlc.DeviceSetSyncedParams{UserID: userID, DeviceID: deviceID, Now: now})
	})
}

// SaveCursors implements cursor.Store.
func (s Positions) SaveCursors(ctx context.Context, epoch string, users, devices []string, sessions []uuid.UUID, seqs []int64) error {
	return Fault(s.q.CursorUpsertMany(ctx, s.pool, sqlc.CursorUpsertManyParams{
		Epoch: epoch, UserIds: users, DeviceIds: devices, SessionIds: sessions, Seqs: seqs}))
}

// Seen implements cursor.Limits.
func (s Positions) Seen(ctx context.Context, userID string, ids []uuid.UUID) (map[uuid.UUID]cursor.Seen, error) {
	positions, err := s.Positions(ctx, userID, "", ids)
	if err != nil {
		return nil, err
	}
	out := make(map[uuid.UUID]cursor.Seen, len(positions))
	for _, p := range positions {
		out[p.SessionID] = cursor.Seen{Visible: p.Visible, Head: p.Head}
	}
	return out, nil
}
