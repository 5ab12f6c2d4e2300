package auth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// The edges of every time, a nanosecond to both sides, with the cache and without.
func TestVerifyTimeEdges(t *testing.T) {
	for name, size := range map[string]int{"cached": 0, "uncached": -1} {
		t.Run(name, func(t *testing.T) { testTimeEdges(t, size) })
	}
}

func testTimeEdges(t *testing.T, cacheSize int) {
	t.Helper()
	b := newBench(t, func(cfg *auth.VerifierConfig) { cfg.CacheSize = cacheSize })
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	for _, c := range []struct {
		name    string
		claims  members
		clock   time.Duration // after start
		reason  refusal.Reason
		refused string // empty: accepted
	}{
		{"before exp", b.oneClaims, 30*time.Minute - 1, "", ""},
		{"at exp", b.oneClaims, 30 * time.Minute, "", ""},
		{"before the end of exp's leeway", b.oneClaims, 30*time.Minute + 30*time.Second - 1, "", ""},
		{"at the end of exp's leeway", b.oneClaims, 30*time.Minute + 30*time.Second, refusal.TokenExpired, "has expired"},
		{"long after exp", b.oneClaims, 24 * time.Hour, refusal.TokenExpired, "has expired"},

		{"iat at the leeway", b.oneClaims.with("iat", at(30*time.Second)), 0, "", ""},
		{"iat beyond the leeway", b.oneClaims.with("iat", at(30*time.Second)), -1, refusal.TokenInvalid, "iat is in the future"},
		{"iat a second beyond", b.oneClaims.with("iat", at(31*time.Second)), 0, refusal.TokenInvalid, "iat is in the future"},

		{"nbf at the leeway", b.oneClaims.with("nbf", at(30*time.Second)), 0, "", ""},
		{"nbf beyond the leeway", b.oneClaims.with("nbf", at(30*time.Second)), -1, refusal.TokenInvalid, "not valid yet"},
		{"nbf a second beyond", b.oneClaims.with("nbf", at(31*time.Second)), 0, refusal.TokenInvalid, "not valid yet"},
		{"nbf after exp", b.oneClaims.with("nbf", at(time.Hour)), 0, refusal.TokenInvalid, "not valid yet"},

		{"lifetime of 30 days", b.oneClaims.with("iat", at(0), "exp", at(30*24*time.Hour)), 0, "", ""},
		{"lifetime of 30 days and a second", b.oneClaims.with("iat", at(0), "exp", at(30*24*time.Hour+time.Second)), 0, refusal.TokenInvalid, "longest lifetime"},
		{"lifetime of a second", b.oneClaims.with("iat", at(0), "exp", at(time.Second)), 0, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := b.ed.token(t, c.claims)
			b.clock.Advance(start.Sub(b.clock.Now()) + c.clock)
			for range 2 {
				if c.refused == "" {
					accepts(t, b.verifier, raw)
				} else {
					refuses(t, b.verifier, raw, c.reason, c.refused)
				}
			}
		})
	}
}

// A token that was accepted, and is therefore cached, ends when it ends, and comes back if the clock is set back into
// its time but not before its beginning.
func TestVerifyCachedTokenFollowsTheClock(t *testing.T) {
	b := newBench(t)
	raw := b.ed.token(t, b.oneClaims.with("nbf", start.Unix()-10))
	accepts(t, b.verifier, raw)
	b.clock.Advance(30*time.Minute + auth.Leeway - 1)
	accepts(t, b.verifier, raw)
	b.clock.Advance(1)
	refuses(t, b.verifier, raw, refusal.TokenExpired, "has expired")
	b.clock.Advance(-time.Hour)
	refuses(t, b.verifier, raw, refusal.TokenInvalid, "not valid yet")
	b.clock.Advance(30 * time.Minute)
	accepts(t, b.verifier, raw)
	b.clock.Advance(-30 * time.Minute)
	refuses(t, b.verifier, raw, refusal.TokenInvalid, "not valid yet")
}

func TestVerifyConfiguredLifetime(t *testing.T) {
	b := newBench(t, func(cfg *auth.VerifierConfig) { cfg.MaxLifetime = time.Hour })
	accepts(t, b.verifier, b.ed.token(t, b.oneClaims))
	longer := b.ed.token(t, b.oneClaims.with("exp", start.Add(30*time.Minute+time.Second).Unix()))
	refuses(t, b.verifier, longer, refusal.TokenInvalid, "longest lifetime")
	require.Equal(t, 30*time.Second, auth.Leeway)
}
