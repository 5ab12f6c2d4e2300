package auth_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

func TestVerifyReturnsTheCaller(t *testing.T) {
	b := newBench(t)
	want := auth.Principal{
		UserID: "alice", DeviceID: "phone", ExpiresAt: start.Add(30 * time.Minute),
		Issuer: issuerOne, KeyID: "ed-1", TokenID: "t-1",
	}
	require.Equal(t, want, unmarked(t, accepts(t, b.verifier, b.ed.token(t, b.oneClaims))))

	want.KeyID = "ec-1"
	require.Equal(t, want, unmarked(t, accepts(t, b.verifier, b.ec.token(t, b.oneClaims))))

	want.Issuer, want.KeyID, want.TokenID = issuerTwo, "two-1", ""
	require.Equal(t, want, unmarked(t, accepts(t, b.verifier, b.other.token(t, goodClaims(issuerTwo).with("jti", nil)))))
}

// What RFC 7515, 7519 and 9068 allow must not be refused.
func TestVerifyAccepts(t *testing.T) {
	b := newBench(t)
	header, claims := b.ed.header(), b.oneClaims
	for name, raw := range map[string]string{
		"no typ":                    b.ed.forge(t, header.with("typ", nil), claims),
		"typ at+jwt":                b.ed.forge(t, header.with("typ", "at+jwt"), claims),
		"typ application/at+jwt":    b.ed.forge(t, header.with("typ", "application/at+jwt"), claims),
		"typ in small letters":      b.ed.forge(t, header.with("typ", "jwt"), claims),
		"unknown header members":    b.ed.forge(t, header.with("x-trace", "1", "cty", "json", "x5t", "AAAA"), claims),
		"no kid, one key":           b.other.forge(t, b.other.header().with("kid", nil), goodClaims(issuerTwo)),
		"aud in an array":           b.ed.token(t, claims.with("aud", []string{"web", "parley"})),
		"aud in an array of one":    b.ed.token(t, claims.with("aud", []string{"parley"})),
		"no jti":                    b.ed.token(t, claims.with("jti", nil)),
		"unknown claims":            b.ed.token(t, claims.with("scope", []any{1, members{"a": nil}}, "EXP", 1, "email", "")),
		"nbf in the past":           b.ed.token(t, claims.with("nbf", start.Unix()-1)),
		"times with a fraction":     b.ed.token(t, claims.with("exp", float64(start.Unix())+1.5, "iat", float64(start.Unix())-.25)),
		"times with an exponent":    b.ed.token(t, strings.Replace(string(encode(t, claims.with("exp", "E"))), `"E"`, `1.77236821e9`, 1)),
		"one-byte ids":              b.ed.token(t, claims.with("sub", "a", "did", " ")),
		"64-byte ids":               b.ed.token(t, claims.with("sub", strings.Repeat("é", 32), "did", strings.Repeat("d", 64))),
		"id of escapes":             b.ed.token(t, strings.Replace(string(encode(t, claims)), `"alice"`, `"\ud83d\ude00\u00e9\\u"`, 1)),
		"id of the replacement":     b.ed.token(t, claims.with("sub", "�")),
		"white space in the JSON":   b.ed.token(t, " \n\t"+string(encode(t, claims))+"\r\n "),
		"empty aud beside the real": b.ed.token(t, claims.with("aud", []string{"", "parley"})),
	} {
		t.Run(name, func(t *testing.T) {
			p := accepts(t, b.verifier, raw)
			require.NotEmpty(t, p.KeyID)
		})
	}
	p := accepts(t, b.verifier, b.ed.token(t, strings.Replace(string(encode(t, b.oneClaims)), `"alice"`, `"\ud83d\ude00\u00e9\\u"`, 1)))
	require.Equal(t, `😀é\u`, p.UserID)
	p = accepts(t, b.verifier, b.ed.token(t, b.oneClaims.with("exp", float64(start.Unix())+1.5)))
	require.Equal(t, start.Add(1500*time.Millisecond), p.ExpiresAt)
}

// A token without kid is bound to the set's only key, and named by that key's thumbprint if it has no kid either.
func TestVerifyWithoutAnyKeyID(t *testing.T) {
	b := newBench(t)
	b.other.jwk = b.other.jwk.with("kid", nil)
	b.two.set = keySet(t, b.other)
	thumbprint := b.two.set.KeyIDs()[0]
	require.Len(t, thumbprint, 43)

	p := accepts(t, b.verifier, b.other.forge(t, members{"alg": "EdDSA"}, goodClaims(issuerTwo)))
	require.Equal(t, thumbprint, p.KeyID)
	accepts(t, b.verifier, b.other.forge(t, members{"alg": "EdDSA", "kid": thumbprint}, goodClaims(issuerTwo)))
	refuses(t, b.verifier, b.other.token(t, goodClaims(issuerTwo)), refusal.TokenInvalid, "key is not one of its issuer's")
	refuses(t, b.verifier, b.other.forge(t, members{"alg": "ES256"}, goodClaims(issuerTwo)), refusal.TokenInvalid, "not that of its key")
}

// Size is looked at before anything else: what is refused for it costs no allocation, however long it is.
func TestVerifySize(t *testing.T) {
	b := newBench(t)
	fits, over := sized(t, b, auth.MaxTokenBytes), sized(t, b, auth.MaxTokenBytes+1)
	accepts(t, b.verifier, fits)
	refuses(t, b.verifier, over, refusal.TokenInvalid, "larger than 4096")

	for name, raw := range map[string]string{
		"a megabyte":           strings.Repeat("A", 1<<20),
		"a million dots":       strings.Repeat(".", 1_000_000),
		"a megabyte of claims": b.ed.token(t, b.oneClaims.with("pad", strings.Repeat("x", 1<<20))),
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, b.verifier, raw, refusal.TokenInvalid, "larger than 4096")
			ctx := t.Context()
			require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = b.verifier.Verify(ctx, raw) }))
		})
	}
}

// sized returns a token, good but for its size, of exactly size bytes.
func sized(t *testing.T, b *bench, size int) string {
	t.Helper()
	pad := size/2 - 500 // Header and claims both grow, since base64 alone cannot have every length.
	for h := pad; h < pad+4; h++ {
		for c := range size {
			header := b.ed.header().with("pad", strings.Repeat("h", h))
			claims := b.oneClaims.with("pad", strings.Repeat("c", c))
			length := 2 + 86 + b64Len(len(encode(t, header))) + b64Len(len(encode(t, claims)))
			if length == size {
				raw := b.ed.forge(t, header, claims)
				require.Len(t, raw, size)
				return raw
			}
			if length > size {
				break
			}
		}
	}
	require.FailNow(t, "no token of that size")
	return ""
}

func b64Len(n int) int { return (n*4 + 2) / 3 }

// While keys cannot be had the token may be good: the client must not throw it away.
func TestVerifyWithoutKeys(t *testing.T) {
	b := newBench(t)
	raw := b.ed.token(t, b.oneClaims)
	keys := b.one.set
	b.one.set = nil
	refuses(t, b.verifier, raw, refusal.Unavailable, "cannot be had")
	require.Equal(t, 1, b.one.refreshed)

	b.one.set = keys
	accepts(t, b.verifier, raw)
}

// Only a kid that a newer set could have makes the source look again, and never another issuer's source.
func TestVerifyAsksForNewKeysOnlyIfTheyCouldHelp(t *testing.T) {
	b := newBench(t)
	unknown := newEd25519(t, "ed-2")
	for _, raw := range []string{
		b.ed.token(t, b.oneClaims),
		b.ed.token(t, b.oneClaims) + "A",
		b.ed.forge(t, b.ed.header().with("alg", "ES256"), b.oneClaims),
		b.ed.forge(t, b.ed.header().with("kid", nil), b.oneClaims),
		unknown.token(t, goodClaims("https://three.example")),
	} {
		_, _ = b.verifier.Verify(t.Context(), raw)
	}
	require.Zero(t, b.one.refreshed+b.two.refreshed)

	refuses(t, b.verifier, unknown.token(t, b.oneClaims), refusal.TokenInvalid, "key is not one of its issuer's")
	require.Equal(t, 1, b.one.refreshed)
	require.Zero(t, b.two.refreshed)
}

type brokenSource struct{ fixedSource }

func (*brokenSource) Refresh(ctx context.Context) (*auth.KeySet, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A caller that leaves while keys are looked for is no refusal.
func TestVerifyEndsWithItsContext(t *testing.T) {
	b := newBench(t, func(cfg *auth.VerifierConfig) { cfg.Issuers[0].Source = &brokenSource{} })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.verifier.Verify(ctx, b.ed.token(t, b.oneClaims))
	require.ErrorIs(t, err, context.Canceled)
	_, refused := refusal.Of(err)
	require.False(t, refused)
}

func TestNewVerifierRefusesNonsense(t *testing.T) {
	source := &fixedSource{}
	good := auth.Issuer{Name: "one", Audience: "parley", Source: source}
	for name, cfg := range map[string]auth.VerifierConfig{
		"no issuer":         {},
		"no name":           {Issuers: []auth.Issuer{{Audience: "parley", Source: source}}},
		"no audience":       {Issuers: []auth.Issuer{{Name: "one", Source: source}}},
		"no source":         {Issuers: []auth.Issuer{{Name: "one", Audience: "parley"}}},
		"a name twice":      {Issuers: []auth.Issuer{good, good}},
		"negative lifetime": {Issuers: []auth.Issuer{good}, MaxLifetime: -1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := auth.NewVerifier(cfg)
			require.Error(t, err)
		})
	}
	_, err := auth.NewVerifier(auth.VerifierConfig{Issuers: []auth.Issuer{good}})
	require.NoError(t, err)
}

// Refusals and errors carry nothing of what was presented.
func TestRefusalsAreSilentAboutTheToken(t *testing.T) {
	b := newBench(t)
	secret := "s3cr3t-user"
	for _, raw := range []string{
		b.ed.token(t, b.oneClaims.with("sub", secret, "exp", start.Unix()-3600)),
		b.ed.token(t, b.oneClaims.with("sub", secret+"\n")),
		b.ed.token(t, b.oneClaims.with("iss", secret)),
		b.ed.forge(t, b.ed.header().with("kid", secret), b.oneClaims),
		secret,
	} {
		_, err := b.verifier.Verify(t.Context(), raw)
		require.Error(t, err)
		require.NotContains(t, err.Error(), secret)
		require.False(t, bytes.Contains([]byte(err.Error()), []byte(raw)))
	}
}
