package auth

import (
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxIDBytes bounds a user id and a device id, in bytes. Both have at least one byte.
const MaxIDBytes = 64

// Principal is the caller that a verified token stands for.
type Principal struct {
	// UserID is the token's sub and DeviceID its did. Both satisfy ValidID.
	UserID, DeviceID string
	// ExpiresAt is the token's exp, without leeway. A live stream of the token ends at this time; the leeway is for
	// clocks that disagree and not for longer sessions.
	ExpiresAt time.Time
	// Issuer is the token's iss, the name of a configured Issuer.
	Issuer string
	// KeyID names the key that verified the token: its kid in the issuer's set, or its RFC 7638 thumbprint there if
	// it has none.
	KeyID string
	// Key marks the key that verified the token, for AcceptedKeys.
	Key KeyMark
	// TokenID is the token's jti, empty if it has none.
	TokenID string
}

// ValidID reports whether id may name a user or a device: 1 to MaxIDBytes bytes of valid UTF-8 without control
// characters (Unicode category Cc).
func ValidID(id string) bool {
	if id == "" || len(id) > MaxIDBytes || !utf8.ValidString(id) {
		return false
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
