package auth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// FuzzVerify holds whatever is presented to one law: nothing is accepted but a token that an issuer signed, byte by byte.
func FuzzVerify(f *testing.F) {
	b := newBench(f)
	good := map[string]bool{
		b.ed.token(f, b.oneClaims): true, b.ec.token(f, b.oneClaims): true, b.other.token(f, goodClaims(issuerTwo)): true,
	}
	for raw := range good {
		f.Add(raw)
		f.Add(raw + "=")
		f.Add(raw[:len(raw)-1])
		f.Add(" " + raw)
		f.Add(strings.Replace(raw, ".", "..", 1))
	}
	for _, raw := range []string{
		"", ".", "..", "...", "a.b.c", "e30.e30.", "e30.e30.AAAA", "eyJhbGciOiJub25lIn0.e30.", "{}.{}.{}", strings.Repeat(".", 5000),
		b.ed.forge(f, b.ed.header().with("alg", "HS256"), b.oneClaims), b.other.forge(f, b.ed.header(), b.oneClaims),
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := b.verifier.Verify(t.Context(), raw)
		if err == nil {
			require.True(t, good[raw], "accepted %q", raw)
			require.NotEmpty(t, p.UserID)
			return
		}
		require.False(t, good[raw])
		reason, ok := refusal.Of(err)
		require.True(t, ok)
		want := refusal.TokenInvalid
		if raw == "" {
			want = refusal.TokenMissing
		}
		require.Equal(t, want, reason)
		require.Zero(t, p)
	})
}

// FuzzClaims signs any claims properly, and looks at what is accepted with another reader of JSON.
func FuzzClaims(f *testing.F) {
	b := newBench(f)
	f.Add(string(encode(f, b.oneClaims)))
	f.Add(string(encode(f, b.oneClaims.with("aud", []string{"parley", "x"}, "exp", 1.77236821e9, "jti", nil, "nbf", 0))))
	f.Add(string(encode(f, b.oneClaims.with("exp", "1", "iat", -1, "sub", "\ufffd\u0000", "did", members{"a": []any{nil, true}}))))
	f.Add(strings.Replace(string(encode(f, b.oneClaims)), `"alice"`, `"\ud800\udc00\\\"\/\u0000"`, 1))
	f.Add(`{"exp":1,"exp":2}`)
	f.Add("[[[[")
	f.Fuzz(func(t *testing.T, claims string) {
		raw := b.ed.token(t, claims)
		p, err := b.verifier.Verify(t.Context(), raw)
		if err != nil {
			reason, ok := refusal.Of(err)
			require.True(t, ok)
			require.Contains(t, []refusal.Reason{refusal.TokenInvalid, refusal.TokenExpired}, reason)
			return
		}
		require.LessOrEqual(t, len(raw), auth.MaxTokenBytes)
		require.True(t, utf8.ValidString(claims))
		var read map[string]any
		require.NoError(t, json.Unmarshal([]byte(claims), &read))
		require.Equal(t, issuerOne, read["iss"])
		require.Contains(t, fmt.Sprint(read["aud"]), "parley")
		require.Equal(t, p.UserID, read["sub"])
		require.Equal(t, p.DeviceID, read["did"])
		require.True(t, auth.ValidID(p.UserID) && auth.ValidID(p.DeviceID))
		now := float64(start.Unix())
		require.Greater(t, read["exp"], now-30)
		require.LessOrEqual(t, read["iat"], now+30)
		if nbf, ok := read["nbf"]; ok {
			require.LessOrEqual(t, nbf, now+30)
		}
	})
}

// FuzzHeader signs any header properly: what is accepted names the key and no other one.
func FuzzHeader(f *testing.F) {
	b := newBench(f)
	f.Add(`{"alg":"EdDSA","kid":"ed-1"}`)
	f.Add(`{"alg":"EdDSA","kid":"ed-1","typ":"at+JWT","x":[{}]}`)
	f.Add(`{"alg":"EdDSA","kid":"ed-1","crit":["x"],"x":1}`)
	f.Add(`{"alg":"EdDSA","kid":"ed-1","b64":false}`)
	f.Add(`{"alg":"none","kid":"ed-1","jku":"http://127.0.0.1:1"}`)
	f.Add(`{"alg":"EdDSA","\u006bid":"ed-1","kid":"ec-1"}`)
	f.Fuzz(func(t *testing.T, header string) {
		p, err := b.verifier.Verify(t.Context(), b.ed.forge(t, header, b.oneClaims))
		if err != nil {
			reason, _ := refusal.Of(err)
			require.Equal(t, refusal.TokenInvalid, reason)
			return
		}
		require.Equal(t, "ed-1", p.KeyID)
		var read map[string]any
		require.NoError(t, json.Unmarshal([]byte(header), &read))
		require.Equal(t, "EdDSA", read["alg"])
		require.Equal(t, "ed-1", read["kid"])
		for _, name := range []string{"jku", "jwk", "x5u", "x5c", "crit", "b64"} {
			require.NotContains(t, read, name)
		}
	})
}

// FuzzKeySet reads any document as a key set.
func FuzzKeySet(f *testing.F) {
	ed, ec := newEd25519(f, "a"), newES256(f, "b")
	f.Add(jwks(f, ed, ec))
	f.Add(encode(f, ed.jwk))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"","y":""},null,1]}`))
	f.Add([]byte(`{"keys":null}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		set, err := auth.ParseKeySet(document)
		if err != nil {
			require.Nil(t, set)
			return
		}
		require.Len(t, set.KeyIDs(), set.Len())
		for _, id := range set.KeyIDs() {
			require.NotEmpty(t, id)
			require.LessOrEqual(t, len(id), auth.MaxKeyIDBytes)
		}
	})
}
