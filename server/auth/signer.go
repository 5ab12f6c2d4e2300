package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/parley-im/parley/server/refusal"
)

// SigningDelay is how long a key that appears while the process runs only verifies before it signs: 1 minute. Nodes
// that share the keys, or get them one after the other, thus all know a key before a token needs it.
const SigningDelay = time.Minute

// SignerConfig says what a Signer's tokens say.
type SignerConfig struct {
	// Issuer is the tokens' iss. Required.
	Issuer string
	// Audience is the tokens' aud. Required.
	Audience string
	// MaxTTL is the longest time a token may hold. 0 means DefaultMaxLifetime; negative is an error. It must not exceed
	// the Verifier's MaxLifetime.
	MaxTTL time.Duration
	// Clock; nil means the real one.
	Clock clockwork.Clock
	// Log gets failures and changes of the keys; nil means none. No key material is logged.
	Log *slog.Logger
}

// Signer mints tokens with Parley's own Ed25519 keys, and is the Source of their public halves. It prints as its
// issuer's name: no format shows a key.
type Signer struct {
	polled
	path     string
	issuer   string
	audience string
	maxTTL   time.Duration
	// ring is what was read last. It is read without a lock, so that a hanging disk does not hold up minting; it is
	// written under polled.loading and never nil after LoadOrCreateSigner.
	ring atomic.Pointer[keyring]
}

// LoadOrCreateSigner reads the signing keys at path, and makes one there if there is none yet.
//
// path is a PEM file or a directory whose files named *.pem are read in the order of their names. A file holds one or
// more Ed25519 private keys as PKCS#8 ("PRIVATE KEY"), unencrypted. The last key of the last file signs, all verify.
// To rotate, add a key that comes last, and take the old one away once its last token has expired. Changes are seen
// within a second; a key that appears while the process runs signs after SigningDelay, unless it replaces all others.
//
// A path that does not exist is made: as a directory (0700, with one key file in it) if it ends with a slash, else as a
// file. Key files are made with mode 0600 and appear whole or not at all; of several processes that make the same one
// at a time, one wins and the others read it. A key file that other users of the machine can read is only logged as a
// warning, since mounted secrets often are.
func LoadOrCreateSigner(path string, cfg SignerConfig) (*Signer, error) {
	if path == "" || cfg.Issuer == "" || cfg.Audience == "" {
		return nil, errors.New("signing keys: path, issuer and audience are needed")
	}
	if cfg.MaxTTL < 0 {
		return nil, errors.New("signing keys: the longest lifetime is negative")
	}
	if cfg.MaxTTL == 0 {
		cfg.MaxTTL = DefaultMaxLifetime
	}
	s := &Signer{path: path, issuer: cfg.Issuer, audience: cfg.Audience, maxTTL: cfg.MaxTTL}
	s.clock, s.log = orReal(cfg.Clock), orSilent(cfg.Log).With("issuer", cfg.Issuer)
	s.polled.load = s.load
	if err := createKeyIfNone(path, s.clock.Now()); err != nil {
		return nil, fmt.Errorf("make a signing key at %s: %w", path, err)
	}
	if err := s.start(); err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	for _, file := range s.ring.Load().exposed {
		s.log.Warn("signing key file is accessible to other users of this machine", "file", file)
	}
	return s, nil
}

// load reads the keys anew. The first reading's keys may sign at once.
func (s *Signer) load() (*KeySet, error) {
	ring, err := readKeyring(s.path)
	if err != nil {
		return nil, err
	}
	if before := s.ring.Load(); before != nil {
		ring.inherit(before, s.clock.Now())
	}
	set, err := ParseKeySet(ring.public)
	if err != nil {
		return nil, err
	}
	s.ring.Store(ring)
	return set, nil
}

// AsIssuer is what a Verifier needs to accept this Signer's tokens.
func (s *Signer) AsIssuer() Issuer {
	return Issuer{Name: s.issuer, Audience: s.audience, Source: s}
}

// PublicSet returns the JWKS document with the public keys, for others who verify Parley's tokens. The slice is the
// caller's own. It fails with ErrKeysUnavailable if the keys could not be read for KeepKeys.
func (s *Signer) PublicSet() ([]byte, error) {
	if _, err := s.Keys(); err != nil {
		return nil, err
	}
	return bytes.Clone(s.ring.Load().public), nil
}

// Mint makes a token for a device of a user. Times in tokens are whole seconds: the token is issued at the current
// one, and fractions of ttl are dropped. expiresAt is its exp, in UTC.
//
// userID and deviceID have 1 to MaxIDBytes bytes of UTF-8 without control characters, ttl is one second to MaxTTL; else
// the error is the refusal INVALID_FIELD. If the keys could not be read for KeepKeys it is the refusal UNAVAILABLE.
func (s *Signer) Mint(userID, deviceID string, ttl time.Duration) (token string, expiresAt time.Time, err error) {
	switch {
	case !ValidID(userID):
		return "", time.Time{}, invalidField("user_id", "The user id is not 1 to 64 bytes without control characters.")
	case !ValidID(deviceID):
		return "", time.Time{}, invalidField("device_id", "The device id is not 1 to 64 bytes without control characters.")
	case ttl < time.Second || ttl > s.maxTTL:
		return "", time.Time{}, invalidField("ttl", "The lifetime is shorter than a second or longer than permitted.")
	}
	if _, err := s.Keys(); err != nil {
		return "", time.Time{}, errUnavailable
	}
	now := s.clock.Now()
	key := s.ring.Load().signing(now)
	issuedAt := now.Unix()
	expiry := issuedAt + int64(ttl/time.Second)
	payload, err := json.Marshal(mintedClaims{
		Issuer: s.issuer, Audience: s.audience, User: userID, Device: deviceID,
		IssuedAt: issuedAt, Expiry: expiry, TokenID: rand.Text(),
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("encode claims: %w", err)
	}
	header := jws.NewHeaders()
	if err := errors.Join(header.Set(jws.KeyIDKey, key.id), header.Set(jws.TypeKey, "JWT")); err != nil {
		return "", time.Time{}, fmt.Errorf("make token header: %w", err)
	}
	signed, err := jws.Sign(payload, jws.WithKey(jwa.EdDSA(), key.private, jws.WithProtectedHeaders(header)))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign token: %w", err)
	}
	return string(signed), time.Unix(expiry, 0).UTC(), nil
}

// mintedClaims are the claims of Parley's own tokens.
type mintedClaims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	User     string `json:"sub"`
	Device   string `json:"did"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
	TokenID  string `json:"jti"`
}

// String keeps keys out of whatever formats a Signer.
func (s *Signer) String() string { return "signer of " + s.issuer }

// GoString does the same for %#v.
func (s *Signer) GoString() string { return s.String() }

func invalidField(field, text string) *refusal.Error {
	return refusal.New(refusal.InvalidField, text, "field", field)
}
