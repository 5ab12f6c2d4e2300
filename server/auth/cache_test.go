package auth_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// A cached token must stop being good with the key that signed it, whatever else stays.
func TestCacheIsVoidWhenKeysChange(t *testing.T) {
	b := newBench(t)
	raw := b.ed.token(t, b.oneClaims)
	accepts(t, b.verifier, raw)

	b.one.set = keySet(t, b.ec)
	refuses(t, b.verifier, raw, refusal.TokenInvalid, "key is not one of its issuer's")

	b.one.set = keySet(t, newEd25519(t, "ed-1"), b.ec) // The same kid, another key.
	refuses(t, b.verifier, raw, refusal.TokenInvalid, "signature")

	b.one.set = nil
	refuses(t, b.verifier, raw, refusal.Unavailable, "cannot be had")

	b.one.set = keySet(t, b.ec, newEd25519(t, "ed-2"), b.ed)
	accepts(t, b.verifier, raw)
	accepts(t, b.verifier, b.other.token(t, goodClaims(issuerTwo)))
}

// With a cache the second look at a token costs no signature check; allocations show it.
func TestCacheSparesTheSecondCheck(t *testing.T) {
	cost := func(size int) float64 {
		b := newBench(t, func(cfg *auth.VerifierConfig) { cfg.CacheSize = size })
		raw := b.ed.token(t, b.oneClaims)
		accepts(t, b.verifier, raw)
		ctx := t.Context()
		return testing.AllocsPerRun(20, func() { _, _ = b.verifier.Verify(ctx, raw) })
	}
	require.LessOrEqual(t, cost(10), 1.0)
	require.Greater(t, cost(-1), 10.0)
}

// The cache is bounded, and neither other tokens nor refused ones change an answer.
func TestCacheBound(t *testing.T) {
	b := newBench(t, func(cfg *auth.VerifierConfig) { cfg.CacheSize = 2 })
	var tokens []string
	for i := range 5 {
		tokens = append(tokens, b.ed.token(t, b.oneClaims.with("sub", fmt.Sprintf("user-%d", i))))
	}
	for range 3 {
		for i, raw := range tokens {
			require.Equal(t, fmt.Sprintf("user-%d", i), accepts(t, b.verifier, raw).UserID)
			refuses(t, b.verifier, raw[:len(raw)-4]+"AAAA", refusal.TokenInvalid, "")
		}
	}
}

func TestVerifyConcurrently(t *testing.T) {
	b := newBench(t, func(cfg *auth.VerifierConfig) { cfg.CacheSize = 3 })
	done := make(chan error)
	for worker := range 8 {
		raw := b.ed.token(t, b.oneClaims.with("sub", fmt.Sprintf("user-%d", worker%4)))
		go func() { done <- verifyMany(t.Context(), b.verifier, raw, fmt.Sprintf("user-%d", worker%4)) }()
	}
	for range 8 {
		require.NoError(t, <-done)
	}
}

func verifyMany(ctx context.Context, v *auth.Verifier, raw, user string) error {
	for range 50 {
		p, err := v.Verify(ctx, raw)
		if err != nil {
			return err
		}
		if p.UserID != user {
			return fmt.Errorf("got %s for %s", p.UserID, user)
		}
	}
	return nil
}
