package auth

import (
	"context"
	"errors"
	"time"
)

// KeepKeys is how long a source goes on with the last good set after reading it last succeeded: 24 hours.
const KeepKeys = 24 * time.Hour

// ErrKeysUnavailable says that a source has no keys that it may go by, or could not look for newer ones.
var ErrKeysUnavailable = errors.New("verification keys are unavailable")

// Source holds the verification keys of one issuer. FileSource, URLSource and Signer are sources. Implementations are
// safe for concurrent use.
type Source interface {
	// Keys returns the current set. It is called for every token and never waits for a network. The error is or wraps
	// ErrKeysUnavailable.
	Keys() (*KeySet, error)
	// Refresh is called for a token whose kid is not in the current set, or if there is no set. The source looks for a
	// newer set unless it did so a moment ago, bounding the cost itself, and returns the set that is then current. It
	// fails with ErrKeysUnavailable if there is none or if the latest attempt to look failed (the missing key may
	// exist), and with the context's error.
	Refresh(ctx context.Context) (*KeySet, error)
}

// Issuer is one party whose tokens are accepted. All issuers share one space of user ids: each of them can speak for
// every user.
type Issuer struct {
	// Name is what the tokens' iss must be, byte by byte. Required.
	Name string
	// Audience is what the tokens' aud must have. Required.
	Audience string
	// Source has the issuer's keys. Required. The owner closes it after the Verifier's last use.
	Source Source
}
