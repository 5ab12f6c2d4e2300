package auth_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
)

func TestParseKeySetTakesWhatVerifies(t *testing.T) {
	ed, ec := newEd25519(t, "a"), newES256(t, "b")
	for name, key := range map[string]members{
		"Ed25519": ed.jwk, "P-256": ec.jwk,
		"no alg":                  ed.jwk.with("alg", nil),
		"no use":                  ed.jwk.with("use", nil),
		"alg of RFC 9864":         ed.jwk.with("alg", "Ed25519"),
		"key_ops verify":          ed.jwk.with("use", nil, "key_ops", []string{"verify"}),
		"unknown members":         ec.jwk.with("exp", 5, "nbf", "x"),
		"kid of 256 bytes":        ed.jwk.with("kid", strings.Repeat("k", 256)),
		"no kid":                  ed.jwk.with("kid", nil),
		"the same key twice over": ed.jwk,
	} {
		t.Run(name, func(t *testing.T) {
			set, err := auth.ParseKeySet(encode(t, members{"keys": []members{key, key}, "other": 1}))
			require.NoError(t, err)
			require.Equal(t, 1, set.Len())
		})
	}
}

// Keys of no use here do not spoil a set: identity providers publish all kinds in one.
func TestParseKeySetLeavesOut(t *testing.T) {
	ed, ec := newEd25519(t, "a"), newES256(t, "b")
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	for name, key := range map[string]any{
		"RSA":              members{"kty": "RSA", "kid": "r", "n": b64(private.N.Bytes()), "e": b64(big.NewInt(int64(private.E)).Bytes())},
		"symmetric":        members{"kty": "oct", "kid": "a", "k": b64(make([]byte, 32)), "alg": "HS256"},
		"X25519":           members{"kty": "OKP", "crv": "X25519", "kid": "x", "x": b64(x25519.PublicKey().Bytes())},
		"P-384":            newECDSA(t, "p", "ES384", elliptic.P384()).jwk,
		"P-384 as ES256":   newECDSA(t, "p", "ES256", elliptic.P384()).jwk,
		"P-521":            newECDSA(t, "p", "ES512", elliptic.P521()).jwk,
		"for encryption":   ed.jwk.with("use", "enc"),
		"for signing only": ed.jwk.with("use", nil, "key_ops", []string{"sign"}),
		"alg of another":   ed.jwk.with("alg", "ES256"),
		"alg HS256":        ed.jwk.with("alg", "HS256"),
		"EC as HS256":      ec.jwk.with("alg", "HS256"),
		"unknown kind":     members{"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA"},
		"unknown curve":    ec.jwk.with("crv", "P-257"),
		"short Ed25519":    ed.jwk.with("x", b64(make([]byte, 31))),
		"off the curve":    ec.jwk.with("x", b64(bytes.Repeat([]byte{1}, 32))),
		"point at zero":    ec.jwk.with("x", b64(make([]byte, 32)), "y", b64(make([]byte, 32))),
		"no x":             ed.jwk.with("x", nil),
		"kid too long":     ed.jwk.with("kid", strings.Repeat("k", 257)),
		"kid a number":     ed.jwk.with("kid", 5),
		"no object":        5,
	} {
		t.Run(name, func(t *testing.T) {
			good := newEd25519(t, "good")
			set, err := auth.ParseKeySet(encode(t, members{"keys": []any{key, good.jwk}}))
			require.NoError(t, err)
			require.Equal(t, []string{"good"}, set.KeyIDs())
		})
	}
	set, err := auth.ParseKeySet([]byte(`{"keys":[]}`))
	require.NoError(t, err)
	require.Zero(t, set.Len())
}

func TestParseKeySetRefuses(t *testing.T) {
	ed, twin := newEd25519(t, "a"), newEd25519(t, "a")
	private := ed.jwk.with("d", b64(ed.ed.Seed()))
	large := append(jwks(t, ed), bytes.Repeat([]byte(" "), auth.MaxKeySetBytes)...)
	many := make([]members, 1001)
	for i := range many {
		many[i] = members{}
	}
	for name, document := range map[string][]byte{
		"nothing": nil, "no JSON": []byte("<html>"), "null": []byte("null"), "array": []byte("[]"), "object": []byte("{}"),
		"an error page":       []byte(`{"error":"not_found"}`),
		"keys null":           []byte(`{"keys":null}`),
		"keys an object":      []byte(`{"keys":{}}`),
		"trailing data":       append(jwks(t, ed), "{}"...),
		"cut off":             jwks(t, ed)[:100],
		"too large":           large[:auth.MaxKeySetBytes+1],
		"too many":            encode(t, members{"keys": many}),
		"private key":         encode(t, members{"keys": []members{private}}),
		"private key, no kid": encode(t, members{"keys": []members{ed.jwk, private.with("kid", nil)}}),
		"one kid, two keys":   jwks(t, ed, twin),
	} {
		t.Run(name, func(t *testing.T) {
			set, err := auth.ParseKeySet(document)
			require.Error(t, err)
			require.Nil(t, set)
			require.NotContains(t, err.Error(), b64(ed.ed.Seed()))
		})
	}
	_, err := auth.ParseKeySet(large[:auth.MaxKeySetBytes])
	require.NoError(t, err)
}

// RFC 7517, section 4.5: keys of different kinds may share a kid. The token's alg tells them apart.
func TestOneKeyIDForTwoAlgorithms(t *testing.T) {
	b := newBench(t)
	ed, ec := newEd25519(t, "k"), newES256(t, "k")
	b.one.set = keySet(t, ec, ed)
	require.Equal(t, []string{"k", "k"}, b.one.set.KeyIDs())
	accepts(t, b.verifier, ed.token(t, b.oneClaims))
	accepts(t, b.verifier, ec.token(t, b.oneClaims))
}
