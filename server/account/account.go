// Package account is the domain of users: who there is, their profiles, and who is shut out. It has the rule for the ids
// of users and devices too, since they enter with users.
package account

import (
	"context"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/parley-im/parley/server/refusal"
)

// Profile is what an app tells of a user. Both may be empty.
type Profile struct {
	DisplayName string
	AvatarURL   string
}

// User is a user of the app.
type User struct {
	ID string
	Profile
	DeactivatedAt *time.Time // since when the user is shut out; nil while active
	CreatedAt     time.Time
}

// Estimates are row counts as PostgreSQL estimates them; never negative.
type Estimates struct {
	Users    int64
	Sessions int64
	Messages int64 // log entries
}

// Store keeps users. Implemented by storage; safe for concurrent use.
type Store interface {
	// Upsert makes a user or replaces their profile, ends a deactivation, and returns the user as stored. now is when a
	// new user was made.
	Upsert(ctx context.Context, userID string, p Profile, now time.Time) (User, error)
	// Deactivate shuts a user out since now, or since earlier where that was done before; ok is false when there is no
	// such user.
	Deactivate(ctx context.Context, userID string, now time.Time) (ok bool, err error)
	// Estimates says how much there is without counting it.
	Estimates(ctx context.Context) (Estimates, error)
}

// Ender ends live streams on this node at once. It never blocks, cannot fail and is safe for concurrent use.
type Ender interface {
	EndUser(userID string, why refusal.Reason)
}

// Forgetter drops what this node remembers of who may call (device.Gate). Safe for concurrent use.
type Forgetter interface {
	ForgetUser(userID string)
}

// unavailable is one value: its text and metadata are the same for every unknown user.
var unavailable = refusal.New(refusal.UserUnavailable, "There is no such user.")

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

// Upsert makes a user or replaces their profile, and brings a deactivated one back. Errors: INVALID_FIELD.
func (s *Service) Upsert(ctx context.Context, userID string, p Profile) (User, error) {
	if err := CheckID("user_id", userID); err != nil {
		return User{}, err
	}
	if err := CheckText("display_name", p.DisplayName); err != nil {
		return User{}, err
	}
	if err := CheckText("avatar_url", p.AvatarURL); err != nil {
		return User{}, err
	}
	return s.store.Upsert(ctx, userID, p, Now(s.clock))
}

// Deactivate shuts a user out: when it returns, this node refuses their calls and has ended their streams; other nodes
// follow within 2 s. Nothing is erased, and doing it again changes nothing. Errors: INVALID_FIELD, USER_UNAVAILABLE.
func (s *Service) Deactivate(ctx context.Context, userID string) error {
	if err := CheckID("user_id", userID); err != nil {
		return err
	}
	ok, err := s.store.Deactivate(ctx, userID, Now(s.clock))
	if err != nil {
		return err
	}
	if !ok {
		return unavailable
	}
	// In this order: a stream that reconnects at once must not be let in by what is remembered.
	s.memory.ForgetUser(userID)
	s.ends.EndUser(userID, refusal.UserDeactivated)
	return nil
}

// Estimates says how many users, sessions and log entries the database has, as PostgreSQL estimates them.
func (s *Service) Estimates(ctx context.Context) (Estimates, error) { return s.store.Estimates(ctx) }

// Now is the clock's time as the database keeps it, in UTC and whole microseconds, so that what is answered first and
// what is read back later are equal.
func Now(clock clockwork.Clock) time.Time { return clock.Now().UTC().Truncate(time.Microsecond) }
