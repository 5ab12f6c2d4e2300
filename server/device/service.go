package device

import (
	"context"

	"github.com/jonboulle/clockwork"

	"github.com/parley-im/parley/server/account"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// Service has the rules. Safe for concurrent use.
type Service struct {
	store  Store
	ends   Ender
	memory Forgetter
	clock  clockwork.Clock
}

// NewService returns the service.
func NewService(store Store, ends Ender, memory Forgetter, clock clockwork.Clock) *Service {
	return &Service{store: store, ends: ends, memory: memory, clock: clock}
}

// Register makes the calling device known, with its user where that is new, or replaces what is known of it; a platform
// that is not said stays what it was. The caller's token was verified, and that is all that needs to be known of them.
// Errors: INVALID_FIELD, USER_DEACTIVATED, DEVICE_REVOKED, TOO_MANY_DEVICES.
func (s *Service) Register(ctx context.Context, by session.Actor, d Details) (Device, error) {
	if err := account.CheckText("push_target", d.PushTarget); err != nil {
		return Device{}, err
	}
	if err := account.CheckText("display_name", d.DisplayName); err != nil {
		return Device{}, err
	}
	return s.admit(ctx, by, d, func(known Device) Device {
		if d.Platform == 0 {
			d.Platform = known.Platform
		}
		known.Details = d
		return known
	})
}

// Ensure makes a device with its user known where they are new, and changes nothing otherwise. Errors: INVALID_FIELD,
// USER_DEACTIVATED, DEVICE_REVOKED, TOO_MANY_DEVICES.
func (s *Service) Ensure(ctx context.Context, userID, deviceID string, p Platform) (Device, error) {
	return s.admit(ctx, session.Actor{UserID: userID, DeviceID: deviceID}, Details{Platform: p},
		func(known Device) Device { return known })
}

// admit lets a device in: a new one with details, a known one as update leaves it.
func (s *Service) admit(ctx context.Context, who session.Actor, details Details, update func(known Device) Device) (Device, error) {
	if err := account.CheckID("user_id", who.UserID); err != nil {
		return Device{}, err
	}
	if err := account.CheckID("device_id", who.DeviceID); err != nil {
		return Device{}, err
	}
	now := account.Now(s.clock)
	return s.store.Register(ctx, who.UserID, who.DeviceID, now, func(st Standing) (Device, error) {
		switch {
		case st.Deactivated:
			return Device{}, errDeactivated
		case st.Known && st.Revoked:
			return Device{}, errRevoked
		case st.Known:
			return update(st.Device), nil
		case st.Live >= MaxDevices:
			return Device{}, errTooMany
		default:
			return Device{ID: who.DeviceID, Details: details, CreatedAt: now}, nil
		}
	})
}

// List returns the user's devices that are not revoked, ordered by id; at most MaxDevices.
func (s *Service) List(ctx context.Context, userID string) ([]Device, error) {
	return s.store.List(ctx, userID)
}

// Revoke ends a device of the user for good: when it returns, this node refuses its calls and has ended its stream;
// other nodes follow within 2 s. Doing it again changes nothing. Errors: INVALID_FIELD, DEVICE_UNAVAILABLE.
func (s *Service) Revoke(ctx context.Context, userID, deviceID string) error {
	if err := account.CheckID("device_id", deviceID); err != nil {
		return err
	}
	ok, err := s.store.Revoke(ctx, userID, deviceID, account.Now(s.clock))
	if err != nil {
		return err
	}
	if !ok {
		return errUnavailable
	}
	// In this order: a stream that reconnects at once must not be let in by what is remembered.
	s.memory.Forget(userID, deviceID)
	s.ends.EndDevice(userID, deviceID, refusal.DeviceRevoked)
	return nil
}

// ListRefused returns those of the pairs (users[i], devices[i]) that may not call, and why, in no order. A node asks it
// about its live streams each second, so that a revocation needs nothing but PostgreSQL to reach them.
func (s *Service) ListRefused(ctx context.Context, users, devices []string) ([]Refused, error) {
	if len(users) == 0 {
		return nil, nil
	}
	return s.store.ListRefused(ctx, users, devices)
}
