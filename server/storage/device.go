package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/refusal"
)

// Devices implements device.Store and device.GateStore.
type Devices struct{ *DB }

// Register implements device.Store. Making the user, locking and reading are one round trip.
func (s Devices) Register(ctx context.Context, userID, deviceID string, now time.Time,
	rule func(device.Standing) (device.Device, error),
) (d device.Device, err error) {
	err = s.InTx(ctx, func(tx pgx.Tx) error {
		st, err := s.lockStanding(ctx, tx, userID, deviceID, now)
		if err != nil {
			return err
		}
		if d, err = rule(st); err != nil {
			return err
		}
		if st.Known && d.Details == st.Device.Details {
			return nil
		}
		return s.q.DevicePut(ctx, tx, sqlc.DevicePutParams{
			UserID: userID, DeviceID: deviceID, Platform: int16(d.Platform), PushTarget: d.PushTarget,
			DisplayName: d.DisplayName, CreatedAt: d.CreatedAt,
		})
	})
	return d, err
}

func (s Devices) lockStanding(ctx context.Context, tx pgx.Tx, userID, deviceID string, now time.Time) (st device.Standing, err error) {
	var batch pgx.Batch
	batch.Queue(sqlc.UserEnsure, userID, now)
	batch.Queue(sqlc.UserLock, userID).QueryRow(func(row pgx.Row) error { return row.Scan(&st.Deactivated) })
	batch.Queue(sqlc.DeviceGet, userID, deviceID).QueryRow(func(row pgx.Row) error {
		var r sqlc.DeviceGetRow
		err := row.Scan(&r.DeviceID, &r.Platform, &r.PushTarget, &r.DisplayName, &r.CreatedAt, &r.LastSeenAt, &r.Revoked)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		st.Known, st.Revoked = true, r.Revoked
		st.Device = deviceOf(sqlc.DeviceListRow{
			DeviceID: r.DeviceID, Platform: r.Platform, PushTarget: r.PushTarget, DisplayName: r.DisplayName,
			CreatedAt: r.CreatedAt, LastSeenAt: r.LastSeenAt,
		})
		return err
	})
	batch.Queue(sqlc.DeviceCount, userID).QueryRow(func(row pgx.Row) error { return row.Scan(&st.Live) })
	err = tx.SendBatch(ctx, &batch).Close()
	return st, err
}

func deviceOf(r sqlc.DeviceListRow) device.Device {
	return device.Device{
		ID: r.DeviceID,
		Details: device.Details{
			Platform: device.Platform(r.Platform), PushTarget: r.PushTarget, DisplayName: r.DisplayName,
		},
		CreatedAt: r.CreatedAt.UTC(), LastSeenAt: utc(r.LastSeenAt),
	}
}

// List implements device.Store.
func (s Devices) List(ctx context.Context, userID string) ([]device.Device, error) {
	rows, err := s.q.DeviceList(ctx, s.pool, userID)
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]device.Device, 0, len(rows))
	for _, r := range rows {
		out = append(out, deviceOf(r))
	}
	return out, nil
}

// Revoke implements device.Store. The user's lock keeps a registration of the same device from bringing its push target
// back. Cursors go, since the id cannot come back; one that is being written behind may stay, and means nothing.
func (s Devices) Revoke(ctx context.Context, userID, deviceID string, now time.Time) (ok bool, err error) {
	err = s.InTx(ctx, func(tx pgx.Tx) error {
		switch _, err := s.q.UserLock(ctx, tx, userID); {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return err
		}
		n, err := s.q.DeviceRevoke(ctx, tx, sqlc.DeviceRevokeParams{UserID: userID, DeviceID: deviceID, Now: now})
		if ok = n > 0; err != nil || !ok {
			return err
		}
		return s.q.CursorDeleteDevice(ctx, tx, sqlc.CursorDeleteDeviceParams{UserID: userID, DeviceID: deviceID})
	})
	return ok && err == nil, err
}

// SetSeen implements device.SeenStore.
func (s Devices) SetSeen(ctx context.Context, users, devices []string, numbers []int64, at []time.Time) error {
	return Fault(s.q.DeviceSetSeenMany(ctx, s.pool, sqlc.DeviceSetSeenManyParams{UserIds: users, DeviceIds: devices,
		Numbers: numbers, Ats: at}))
}

// Access implements device.GateStore.
func (s Devices) Access(ctx context.Context, userID, deviceID string) (device.Access, error) {
	r, err := s.q.DeviceAccess(ctx, s.pool, sqlc.DeviceAccessParams{UserID: userID, DeviceID: deviceID})
	if errors.Is(err, pgx.ErrNoRows) {
		return device.Access{}, nil
	}
	return device.Access(r), Fault(err)
}

// ListRefused implements device.Store.
func (s Devices) ListRefused(ctx context.Context, users, devices []string) ([]device.Refused, error) {
	rows, err := s.q.DeviceListRefused(ctx, s.pool, sqlc.DeviceListRefusedParams{UserIds: users, DeviceIds: devices})
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]device.Refused, 0, len(rows))
	for _, r := range rows {
		why := refusal.DeviceRevoked
		if r.Deactivated {
			why = refusal.UserDeactivated
		}
		out = append(out, device.Refused{UserID: r.UserID, DeviceID: r.DeviceID, Reason: why})
	}
	return out, nil
}
