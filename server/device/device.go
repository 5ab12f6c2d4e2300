// Package device is the domain of users' devices: registering and revoking them, who may call (Gate), and tokens for
// them (Tokens).
//
// A device is known from its first registration on, or from the first token that was minted for it, and stays known:
// revoking ends it for good, and its id cannot come back. Registering and revoking of one user's devices run one after
// another under the lock of the user.
//
// Revocation takes hold in three places. The Gate forgets on the node that revoked, and remembers nothing for longer
// than a second on others; a node ends its own streams of the device at once; and every node asks ListRefused about its
// live streams each second. So nothing that tells nodes about each other needs to work for it.
package device

import (
	"context"
	"time"

	"github.com/parley-im/parley/server/refusal"
)

// MaxDevices is how many devices a user may have that are not revoked.
const MaxDevices = 64

// Platform is what a device runs on. The numbers are those of parley.v1.DevicePlatform and of user_to_device.platform;
// 0 means not said.
type Platform int16

// Details are what a device tells of itself.
type Details struct {
	Platform Platform
	// PushTarget is where the app's push service reaches the device, opaque; empty means no push. It is private: it is
	// never logged and never shown to anybody.
	PushTarget  string
	DisplayName string // may be empty
}

// Device is a device of a user.
type Device struct {
	ID string
	Details
	CreatedAt  time.Time
	LastSeenAt *time.Time // when it last opened a stream; nil when it never did
}

// Standing is what deciding on a registration takes, as locked.
type Standing struct {
	Deactivated bool // the user is
	Known       bool // the device is; Device and Revoked mean something
	Revoked     bool
	Device      Device
	Live        int64 // the user's devices that are not revoked
}

// Refused is a device that may not call.
type Refused struct {
	UserID   string
	DeviceID string
	Reason   refusal.Reason // USER_DEACTIVATED, or DEVICE_REVOKED for devices revoked or never registered
}

// Store keeps devices. Implemented by storage; safe for concurrent use.
type Store interface {
	// Register runs rule in one transaction that holds the user's lock, and stores the device that it returns. A user
	// who is not there is made with an empty profile, as of now. When rule fails nothing is kept, and its error comes
	// back as it is. rule may run again from the start after a lost race.
	Register(ctx context.Context, userID, deviceID string, now time.Time, rule func(Standing) (Device, error)) (Device, error)
	// List returns a user's devices that are not revoked, ordered by id.
	List(ctx context.Context, userID string) ([]Device, error)
	// Revoke ends a device since now, or since earlier where that was done before, and forgets its push target and how
	// far it had got; ok is false when there is no such device.
	Revoke(ctx context.Context, userID, deviceID string, now time.Time) (ok bool, err error)
	// ListRefused returns those of the pairs (users[i], devices[i]) that may not call, in no order. Both lists have the
	// same length; one query, whatever that is.
	ListRefused(ctx context.Context, users, devices []string) ([]Refused, error)
}

// Ender ends live streams on this node at once. It never blocks, cannot fail and is safe for concurrent use.
type Ender interface {
	EndDevice(userID, deviceID string, why refusal.Reason)
}

// Forgetter drops what this node remembers of who may call (Gate). Safe for concurrent use.
type Forgetter interface {
	Forget(userID, deviceID string)
}

// The refusals of this package. They are shared and therefore never changed.
var (
	errRevoked     = refusal.New(refusal.DeviceRevoked, "This device was revoked or never registered.")
	errDeactivated = refusal.New(refusal.UserDeactivated, "This user was deactivated.")
	errUnavailable = refusal.New(refusal.DeviceUnavailable, "There is no such device.")
	errTooMany     = refusal.New(refusal.TooManyDevices, "A user may have 64 devices; revoke one first.", "limit", "64")
)
