package device

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-im/parley/server/refusal"
)

// Bounds of a token's lifetime.
const (
	MinTokenTTL     = time.Minute
	MaxTokenTTL     = 30 * 24 * time.Hour
	DefaultTokenTTL = 24 * time.Hour
)

// Minter signs tokens. Implemented by auth; safe for concurrent use.
type Minter interface {
	// Mint returns a token, which is a secret, for a device, and when it ends: ttl from now.
	Mint(userID, deviceID string, ttl time.Duration) (token string, expiresAt time.Time, err error)
}

// Token is a device's proof of who it is. Text is a secret.
type Token struct {
	Text      string
	ExpiresAt time.Time
}

// Tokens mints tokens for devices. Safe for concurrent use.
type Tokens struct {
	devices *Service
	minter  Minter
}

// NewTokens returns a source of tokens. A nil minter (the interface itself, not a nil pointer in it) means that this
// server holds no signing key.
func NewTokens(devices *Service, minter Minter) *Tokens {
	return &Tokens{devices: devices, minter: minter}
}

// Create makes the device and its user known where they are new, on that platform then, and mints a token that holds
// for ttl, from MinTokenTTL to MaxTokenTTL; 0 means DefaultTokenTTL. Errors: NOT_ALLOWED where there is no signing key,
// INVALID_FIELD, USER_DEACTIVATED, DEVICE_REVOKED, TOO_MANY_DEVICES.
func (t *Tokens) Create(ctx context.Context, userID, deviceID string, p Platform, ttl time.Duration) (Token, error) {
	if t.minter == nil {
		return Token{}, refusal.New(refusal.NotAllowed, "This server holds no signing key, so it cannot mint tokens.")
	}
	if ttl == 0 {
		ttl = DefaultTokenTTL
	}
	if ttl < MinTokenTTL || ttl > MaxTokenTTL {
		return Token{}, refusal.New(refusal.InvalidField, "A field breaks its rule.", "field", "ttl",
			"rule", "It must be from 1 minute to 30 days.")
	}
	if _, err := t.devices.Ensure(ctx, userID, deviceID, p); err != nil {
		return Token{}, err
	}
	text, expiresAt, err := t.minter.Mint(userID, deviceID, ttl)
	if err != nil {
		return Token{}, fmt.Errorf("mint token: %w", err)
	}
	return Token{Text: text, ExpiresAt: expiresAt}, nil
}
