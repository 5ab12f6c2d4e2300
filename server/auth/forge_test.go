package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// The tests make tokens and key sets with the standard library alone, so that what is verified was not made by the
// library that verifies it.

var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

type members map[string]any

// with returns a copy with the names set to the values that follow them; nil removes a name.
func (m members) with(pairs ...any) members {
	c := maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		if c[name] = pairs[i+1]; pairs[i+1] == nil {
			delete(c, name)
		}
	}
	return c
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// encode is the JSON of v, or v itself if it is a string of JSON already.
func encode(tb testing.TB, v any) []byte {
	tb.Helper()
	if text, ok := v.(string); ok {
		return []byte(text)
	}
	data, err := json.Marshal(v)
	require.NoError(tb, err)
	return data
}

// forgeKey is a key pair with what its tokens and its JWK say of it.
type forgeKey struct {
	kid  string
	alg  string
	jwk  members
	sign func(input []byte) []byte
	pub  crypto.PublicKey
	ed   ed25519.PrivateKey
}

func newEd25519(tb testing.TB, kid string) *forgeKey {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(tb, err)
	return &forgeKey{
		kid: kid, alg: "EdDSA", pub: public, ed: private,
		jwk:  members{"kty": "OKP", "crv": "Ed25519", "x": b64(public), "kid": kid, "alg": "EdDSA", "use": "sig"},
		sign: func(input []byte) []byte { return ed25519.Sign(private, input) },
	}
}

func newECDSA(tb testing.TB, kid, alg string, curve elliptic.Curve) *forgeKey {
	tb.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(tb, err)
	point, err := private.PublicKey.Bytes()
	require.NoError(tb, err)
	size := (len(point) - 1) / 2
	return &forgeKey{
		kid: kid, alg: alg, pub: &private.PublicKey,
		jwk: members{
			"kty": "EC", "crv": curve.Params().Name, "kid": kid, "alg": alg,
			"x": b64(point[1 : 1+size]), "y": b64(point[1+size:]),
		},
		sign: func(input []byte) []byte {
			digest := sha256.Sum256(input)
			r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
			require.NoError(tb, err)
			return fixed(size, r, s)
		},
	}
}

func newES256(tb testing.TB, kid string) *forgeKey {
	tb.Helper()
	return newECDSA(tb, kid, "ES256", elliptic.P256())
}

// fixed is a JWS signature of ECDSA (RFC 7518, section 3.4): both numbers at the curve's size.
func fixed(size int, numbers ...*big.Int) []byte {
	var out []byte
	for _, n := range numbers {
		out = append(out, n.FillBytes(make([]byte, size))...)
	}
	return out
}

func (k *forgeKey) header() members { return members{"alg": k.alg, "kid": k.kid, "typ": "JWT"} }

// forge makes a token of any header and claims: members, or strings of JSON that are taken as they are.
func (k *forgeKey) forge(tb testing.TB, header, claims any) string {
	tb.Helper()
	input := b64(encode(tb, header)) + "." + b64(encode(tb, claims))
	return input + "." + b64(k.sign([]byte(input)))
}

// token makes a token with the key's own header.
func (k *forgeKey) token(tb testing.TB, claims any) string {
	tb.Helper()
	return k.forge(tb, k.header(), claims)
}

// jwks is the document with the public keys.
func jwks(tb testing.TB, keys ...*forgeKey) []byte {
	tb.Helper()
	all := make([]members, 0, len(keys))
	for _, key := range keys {
		all = append(all, key.jwk)
	}
	return encode(tb, members{"keys": all})
}

// goodClaims are what issuer's tokens say at start: half an hour old, to hold for another half.
func goodClaims(issuer string) members {
	return members{
		"iss": issuer, "aud": "parley", "sub": "alice", "did": "phone", "jti": "t-1",
		"iat": start.Add(-30 * time.Minute).Unix(), "exp": start.Add(30 * time.Minute).Unix(),
	}
}

// fixedSource is a Source whose keys the test sets.
type fixedSource struct {
	set       *auth.KeySet
	refreshed int
}

func (s *fixedSource) Keys() (*auth.KeySet, error) {
	if s.set == nil {
		return nil, auth.ErrKeysUnavailable
	}
	return s.set, nil
}

func (s *fixedSource) Refresh(context.Context) (*auth.KeySet, error) {
	s.refreshed++
	return s.Keys()
}

func keySet(tb testing.TB, keys ...*forgeKey) *auth.KeySet {
	tb.Helper()
	set, err := auth.ParseKeySet(jwks(tb, keys...))
	require.NoError(tb, err)
	return set
}

// bench is two issuers and a Verifier that accepts both: "https://one.example" with an Ed25519 and a P-256 key, and
// "https://two.example" with one Ed25519 key.
type bench struct {
	clock     *clockwork.FakeClock
	ed, ec    *forgeKey // of one
	other     *forgeKey // of two
	one, two  *fixedSource
	verifier  *auth.Verifier
	oneClaims members
}

const (
	issuerOne = "https://one.example"
	issuerTwo = "https://two.example"
)

func newBench(tb testing.TB, change ...func(*auth.VerifierConfig)) *bench {
	tb.Helper()
	b := &bench{
		clock: clockwork.NewFakeClockAt(start), oneClaims: goodClaims(issuerOne),
		ed: newEd25519(tb, "ed-1"), ec: newES256(tb, "ec-1"), other: newEd25519(tb, "two-1"),
	}
	b.one = &fixedSource{set: keySet(tb, b.ed, b.ec)}
	b.two = &fixedSource{set: keySet(tb, b.other)}
	cfg := auth.VerifierConfig{Clock: b.clock, Issuers: []auth.Issuer{
		{Name: issuerOne, Audience: "parley", Source: b.one},
		{Name: issuerTwo, Audience: "parley", Source: b.two},
	}}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	b.verifier, err = auth.NewVerifier(cfg)
	require.NoError(tb, err)
	return b
}

// accepts requires that the token is good and returns who it stands for.
func accepts(tb testing.TB, v *auth.Verifier, raw string) auth.Principal {
	tb.Helper()
	p, err := v.Verify(tb.Context(), raw)
	require.NoError(tb, err)
	return p
}

// refuses requires a refusal for that reason whose text has the fragment, and nothing else.
func refuses(tb testing.TB, v *auth.Verifier, raw string, reason refusal.Reason, fragment string) {
	tb.Helper()
	p, err := v.Verify(tb.Context(), raw)
	var refused *refusal.Error
	require.ErrorAs(tb, err, &refused)
	require.Equal(tb, reason, refused.Reason, refused.Text)
	require.Contains(tb, refused.Text, fragment)
	require.Zero(tb, p)
}
