package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/parley-im/parley/server/refusal"
)

// Bounds of an API key.
const (
	// MinAPIKeyBytes is the least length of an API key: 32 bytes, 128 bits even if written in hexadecimal.
	MinAPIKeyBytes = 32
	// MaxAPIKeyBytes is the greatest length of an API key.
	MaxAPIKeyBytes = 512
	// MaxAPIKeys is the number of keys that hold at once: the one in use and the one that is being rotated in.
	MaxAPIKeys = 2
)

var errAPIKey = refusal.New(refusal.APIKeyInvalid, "The API key is missing or wrong.")

// APIKey checks the keys of the app's own servers. It holds their SHA-256 only. It is safe for concurrent use.
type APIKey struct {
	digests [][sha256.Size]byte
}

// NewAPIKey takes one key, or two during a rotation. A key has MinAPIKeyBytes to MaxAPIKeyBytes visible ASCII
// characters, since it travels in a header; white space is refused and not trimmed. Errors do not hold the key.
func NewAPIKey(keys ...string) (*APIKey, error) {
	if len(keys) == 0 || len(keys) > MaxAPIKeys {
		return nil, fmt.Errorf("1 to %d API keys are needed, not %d", MaxAPIKeys, len(keys))
	}
	a := &APIKey{}
	for _, key := range keys {
		if len(key) < MinAPIKeyBytes || len(key) > MaxAPIKeyBytes {
			return nil, fmt.Errorf("an API key has %d to %d bytes, not %d", MinAPIKeyBytes, MaxAPIKeyBytes, len(key))
		}
		for i := range len(key) {
			if key[i] <= ' ' || key[i] > '~' {
				return nil, errors.New("an API key has visible ASCII characters only, and no white space")
			}
		}
		a.digests = append(a.digests, sha256.Sum256([]byte(key)))
	}
	return a, nil
}

// Check returns nil if presented is one of the keys, else the refusal API_KEY_INVALID. Its time does not depend on
// where presented differs from a key, nor on which key it is: digests are compared, all of them.
func (a *APIKey) Check(presented string) error {
	if len(presented) > MaxAPIKeyBytes {
		return errAPIKey
	}
	digest := sha256.Sum256([]byte(presented))
	matches := 0
	for i := range a.digests {
		matches |= subtle.ConstantTimeCompare(digest[:], a.digests[i][:])
	}
	if matches != 1 {
		return errAPIKey
	}
	return nil
}
