package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/lestrrat-go/jwx/v3/jws"
)

const (
	// Leeway is how far the clocks of issuer and server may be apart: 30 s, on exp, nbf and iat alike.
	Leeway = 30 * time.Second
	// DefaultMaxLifetime is the longest exp - iat that is accepted unless told otherwise: 30 days.
	DefaultMaxLifetime = 30 * 24 * time.Hour
)

// VerifierConfig says whose tokens are accepted.
type VerifierConfig struct {
	// Issuers, at least one, no two with the same name.
	Issuers []Issuer
	// MaxLifetime is the longest exp - iat that is accepted. 0 means DefaultMaxLifetime; negative is an error.
	MaxLifetime time.Duration
	// CacheSize is the number of verified tokens kept. 0 means DefaultCacheSize, a negative number means none.
	CacheSize int
	// Clock; nil means the real one.
	Clock clockwork.Clock
}

// Verifier tells whether a token is good and for whom it stands. The package comment has the rules.
type Verifier struct {
	issuers     map[string]*Issuer
	maxLifetime time.Duration
	cache       *cache
	clock       clockwork.Clock
}

// NewVerifier checks the configuration. It does not look at the sources yet: a node starts while an issuer's key
// server is down.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if len(cfg.Issuers) == 0 {
		return nil, errors.New("token verifier: no issuer is configured")
	}
	if cfg.MaxLifetime < 0 {
		return nil, errors.New("token verifier: the longest lifetime is negative")
	}
	v := &Verifier{issuers: map[string]*Issuer{}, maxLifetime: cfg.MaxLifetime, clock: orReal(cfg.Clock)}
	if v.maxLifetime == 0 {
		v.maxLifetime = DefaultMaxLifetime
	}
	for _, issuer := range cfg.Issuers {
		if issuer.Name == "" || issuer.Audience == "" || issuer.Source == nil {
			return nil, fmt.Errorf("token verifier: issuer %q needs a name, an audience and a source of keys", issuer.Name)
		}
		if _, twice := v.issuers[issuer.Name]; twice {
			return nil, fmt.Errorf("token verifier: issuer %q is configured twice", issuer.Name)
		}
		v.issuers[issuer.Name] = &issuer
	}
	size := cfg.CacheSize
	if size == 0 {
		size = DefaultCacheSize
	}
	var err error
	if v.cache, err = newCache(size); err != nil {
		return nil, fmt.Errorf("token verifier: %w", err)
	}
	return v, nil
}

// Verify returns the caller that the token stands for. raw is the token alone, without "Bearer" (see Bearer).
//
// The error is a *refusal.Error: TOKEN_MISSING if raw is empty, TOKEN_EXPIRED if time is all that is wrong,
// TOKEN_INVALID for everything else, and UNAVAILABLE if the issuer's keys cannot be had (see the package comment). Only
// if ctx ends while it waits for a key set, at most one fetch long, the error wraps the context's.
func (v *Verifier) Verify(ctx context.Context, raw string) (Principal, error) {
	if raw == "" {
		return Principal{}, errMissing
	}
	if len(raw) > MaxTokenBytes {
		return Principal{}, errTooLarge
	}
	now := v.clock.Now()
	digest := tokenDigest(sha256.Sum256([]byte(raw)))
	if entry, ok := v.cache.get(digest, now); ok {
		return entry.principal, nil
	}
	t, err := parseToken(raw)
	if err != nil {
		return Principal{}, err
	}
	issuer, ok := v.issuers[t.claims.issuer]
	if !ok {
		return Principal{}, errIssuer
	}
	keys, key, err := findKey(ctx, issuer.Source, t)
	if err != nil {
		return Principal{}, err
	}
	// The algorithm is the key's own and equal to the header's; the library compares it once more.
	if _, err := jws.Verify([]byte(raw), jws.WithKey(key.alg, key.public), jws.WithCompact()); err != nil {
		return Principal{}, errSignature
	}
	// Time is read anew: finding the key may have taken a while.
	if err := t.claims.check(v.clock.Now(), issuer.Audience, v.maxLifetime); err != nil {
		return Principal{}, err
	}
	principal := Principal{
		UserID: t.claims.user, DeviceID: t.claims.device, ExpiresAt: t.claims.expiry,
		Issuer: issuer.Name, KeyID: key.id, Key: markOf(issuer.Name, &key), TokenID: t.claims.tokenID,
	}
	v.cache.put(digest, &verified{
		principal: principal, issuer: issuer, keys: keys.digest,
		from: t.claims.validFrom(), until: t.claims.expiry.Add(Leeway),
	})
	return principal, nil
}

// findKey returns the token's key and the set it is in. If the current set does not have it, the source is asked to
// look once more.
func findKey(ctx context.Context, source Source, t token) (*KeySet, verificationKey, error) {
	keys, err := source.Keys()
	if err == nil {
		key, fault := keys.find(t.kid, t.alg)
		if fault == nil {
			return keys, key, nil
		}
		if fault != errKeyUnknown {
			return nil, verificationKey{}, fault
		}
	}
	keys, err = source.Refresh(ctx)
	if err == nil {
		key, fault := keys.find(t.kid, t.alg)
		if fault != nil {
			return nil, verificationKey{}, fault
		}
		return keys, key, nil
	}
	if ctx.Err() != nil {
		return nil, verificationKey{}, fmt.Errorf("wait for verification keys: %w", ctx.Err())
	}
	return nil, verificationKey{}, errUnavailable
}
