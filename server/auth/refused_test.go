package auth_test

import (
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
)

// refused is a token that must not be accepted, and why. Each is good but for the one thing in its name, so that it is
// refused for that thing and not by luck.
type refused struct {
	name   string
	raw    string
	reason refusal.Reason
	text   string
}

func bad(name, raw, text string) refused { return refused{name, raw, refusal.TokenInvalid, text} }

func TestVerifyRefuses(t *testing.T) {
	b := newBench(t)
	var groups [][]refused
	groups = append(groups, badForms(t, b), badAlgorithms(t, b), badKeys(t, b), badHeaders(t, b, "https://keys.example"),
		badSignatures(t, b), badClaims(t, b), badTimes(t, b), badJSON(t, b))
	total := 0
	for _, group := range groups {
		for _, c := range group {
			total++
			t.Run(c.name, func(t *testing.T) {
				refuses(t, b.verifier, c.raw, c.reason, c.text)
				refuses(t, b.verifier, c.raw, c.reason, c.text) // Nothing was learnt from the first time.
			})
		}
	}
	require.Greater(t, total, 100)
	accepts(t, b.verifier, b.ed.token(t, b.oneClaims)) // The ground that all of them stand on.
}

func badForms(t *testing.T, b *bench) []refused {
	t.Helper()
	good := b.ed.token(t, b.oneClaims)
	part := strings.Split(good, ".")
	const form = "compact form"
	cases := []refused{{"empty", "", refusal.TokenMissing, "needs a bearer token"}}
	for name, raw := range map[string]string{
		"one space": " ", "one dot": ".", "two dots": "..", "dots up to the limit": strings.Repeat(".", 4096),
		"one part": part[0], "two parts": part[0] + "." + part[1], "four parts": good + "." + part[2],
		"five parts, as encrypted":        good + ".AAAA.AAAA",
		"empty header":                    "." + part[1] + "." + part[2],
		"empty claims":                    part[0] + ".." + part[2],
		"empty signature":                 part[0] + "." + part[1] + ".",
		"space before":                    " " + good,
		"space behind":                    good + " ",
		"line end behind":                 good + "\n",
		"line end inside":                 part[0] + "\n." + part[1] + "." + part[2],
		"carriage return inside":          part[0] + "." + part[1][:8] + "\r\n" + part[1][8:] + "." + part[2],
		"tab inside":                      part[0] + "." + part[1] + ".\t" + part[2],
		"NUL behind":                      good + "\x00",
		"scheme before":                   "Bearer " + good,
		"two tokens":                      good + "," + good,
		"padding":                         part[0] + "=." + part[1] + "." + part[2],
		"padding behind":                  good + "==",
		"standard base64":                 part[0] + "." + part[1] + "." + part[2][:85] + "+",
		"percent encoding":                part[0] + "%2E" + part[1] + "%2E" + part[2],
		"not ASCII":                       part[0] + "." + part[1] + "." + part[2] + "é",
		"full-width dots":                 strings.ReplaceAll(good, ".", "．"),
		"impossible base64 length":        part[0] + "." + part[1] + "." + part[2] + "AAA",
		"JSON serialization":              fmt.Sprintf(`{"payload":"%s","protected":"%s","signature":"%s"}`, part[1], part[0], part[2]),
		"general JSON serialization":      fmt.Sprintf(`{"payload":"%s","signatures":[{"protected":"%s","signature":"%s"}]}`, part[1], part[0], part[2]),
		"other spelling of the signature": part[0] + "." + part[1] + "." + nextSpelling(t, part[2]),
	} {
		cases = append(cases, bad(name, raw, form))
	}
	return cases
}

// nextSpelling changes the unused low bits of the last character: a decoder that is not strict finds the same bytes.
func nextSpelling(t *testing.T, segment string) string {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	require.Equal(t, 86, len(segment)) //nolint:testifylint // the segment is a secret-like string, not to be printed.
	last := strings.IndexByte(alphabet, segment[85])
	return segment[:85] + string(alphabet[last|1])
}

func badAlgorithms(t *testing.T, b *bench) []refused {
	t.Helper()
	const alg = "alg is not EdDSA or ES256"
	var cases []refused
	for _, name := range []any{
		"none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "RS256", "PS256", "ES384", "ES512", "ES256K", "Ed448",
		"eddsa", "EDDSA", "es256", "EdDSA ", "EdDSA\x00", nil, 1, true, []string{"EdDSA"}, members{"alg": "EdDSA"},
	} {
		header := b.ed.header().with("alg", name)
		cases = append(cases, bad(fmt.Sprintf("alg %v", name), b.ed.forge(t, header, b.oneClaims), alg))
	}
	header := b.ed.header().with("alg", "none")
	unsigned := b64(encode(t, header)) + "." + b64(encode(t, b.oneClaims)) + "."
	cases = append(cases,
		bad("alg none, unsigned", unsigned, "compact form"),
		bad("alg none, some signature", unsigned+"AAAA", alg),
		bad("no alg", b.ed.forge(t, b.ed.header().with("alg", nil), b.oneClaims), alg))

	// The classic confusion: the public key, known to all, as the secret of a MAC.
	der, err := x509.MarshalPKIXPublicKey(b.ed.pub)
	require.NoError(t, err)
	for name, secret := range map[string][]byte{
		"raw public key": b.ed.ed[32:], "public key as DER": der,
		"public key as PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"public key as JWK": encode(t, b.ed.jwk),
	} {
		mac := &forgeKey{sign: func(input []byte) []byte {
			h := hmac.New(sha256.New, secret)
			h.Write(input)
			return h.Sum(nil)
		}}
		cases = append(cases,
			bad("HS256 with the "+name, mac.forge(t, b.ed.header().with("alg", "HS256"), b.oneClaims), alg),
			bad("MAC under EdDSA with the "+name, mac.forge(t, b.ed.header(), b.oneClaims), "signature"))
	}
	return cases
}

func badKeys(t *testing.T, b *bench) []refused {
	t.Helper()
	const unknown, mismatch = "key is not one of its issuer's", "alg is not that of its key"
	stranger, p384 := newEd25519(t, "ed-1"), newECDSA(t, "ec-1", "ES256", elliptic.P384())
	header := b.ed.header()
	cases := []refused{
		bad("kid of another issuer", b.other.token(t, b.oneClaims), unknown),
		bad("key of another issuer under a kid of this one", b.other.forge(t, header, b.oneClaims), "signature"),
		bad("other issuer's name", b.ed.token(t, goodClaims(issuerTwo)), unknown),
		bad("unknown kid", b.ed.forge(t, header.with("kid", "ed-9"), b.oneClaims), unknown),
		bad("kid in other letters", b.ed.forge(t, header.with("kid", "ED-1"), b.oneClaims), unknown),
		bad("no kid, two keys", b.ed.forge(t, header.with("kid", nil), b.oneClaims), "has no kid"),
		bad("wrong alg for kid, EdDSA", b.ec.forge(t, b.ec.header().with("alg", "EdDSA"), b.oneClaims), mismatch),
		bad("wrong alg for kid, ES256", b.ed.forge(t, header.with("alg", "ES256"), b.oneClaims), mismatch),
		bad("right alg for kid, wrong key", b.ec.forge(t, header, b.oneClaims), "signature"),
		bad("unknown key under a known kid", stranger.token(t, b.oneClaims), "signature"),
		bad("ES256 with a P-384 key", p384.token(t, b.oneClaims), "signature"),
		bad("kid that climbs directories", b.ed.forge(t, header.with("kid", "../../../../dev/null"), b.oneClaims), unknown),
		bad("kid with SQL in it", b.ed.forge(t, header.with("kid", "x' OR '1'='1"), b.oneClaims), unknown),
	}
	for name, kid := range map[string]any{
		"empty": "", "null": nullJSON{}, "number": 1, "array": []string{"ed-1"}, "of 257 bytes": strings.Repeat("k", 257),
	} {
		cases = append(cases, bad("kid "+name, b.ed.forge(t, header.with("kid", kid), b.oneClaims), "kid is not a string"))
	}
	return cases
}

func badHeaders(t *testing.T, b *bench, url string) []refused {
	t.Helper()
	const member = "header has a member that is refused"
	header := b.ed.header()
	cases := make([]refused, 0, 32)
	for name, value := range map[string]any{
		"jku": url + "/jwks.json", "x5u": url + "/cert.pem", "jwk": b.ed.jwk, "x5c": []string{"MIIB"},
		"crit": []string{"exp"}, "b64": false,
	} {
		cases = append(cases,
			bad(name, b.ed.forge(t, header.with(name, value), b.oneClaims), member),
			bad(name+" null", b.ed.forge(t, header.with(name, nullJSON{}), b.oneClaims), member),
			bad(name+", escaped name", b.ed.forge(t, escapedName(t, header.with(name, value), name), b.oneClaims), member))
	}
	stranger := newEd25519(t, "stranger")
	cases = append(cases,
		bad("own key in jwk", stranger.forge(t, header.with("jwk", stranger.jwk), b.oneClaims), member),
		bad("own key behind jku", stranger.forge(t, stranger.header().with("jku", url), b.oneClaims), member),
		bad("crit empty", b.ed.forge(t, header.with("crit", []string{}), b.oneClaims), member))
	for name, typ := range map[string]any{
		"JWE": "JWE", "empty": "", "null": nullJSON{}, "number": 1, "array": []string{"JWT"}, "JWT with a space": "JWT ",
		"logout+jwt": "logout+jwt", "dpop+jwt": "dpop+jwt", "text/jwt": "text/jwt", "twice": "application/application/jwt",
	} {
		cases = append(cases, bad("typ "+name, b.ed.forge(t, header.with("typ", typ), b.oneClaims), "typ is not"))
	}
	return cases
}

// escapedName writes the member's first letter as an escape, which is the same name to every JSON reader.
func escapedName(t *testing.T, m members, name string) string {
	t.Helper()
	return strings.Replace(string(encode(t, m)), `"`+name+`"`, fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:]), 1)
}

func badSignatures(t *testing.T, b *bench) []refused {
	t.Helper()
	const signature = "signature"
	good := b.ed.token(t, b.oneClaims)
	part := strings.Split(good, ".")
	claims := b64(encode(t, b.oneClaims.with("sub", "mallory")))
	forge := func(base *forgeKey, sign func(input []byte) []byte) string {
		return (&forgeKey{sign: sign}).forge(t, base.header(), b.oneClaims)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	cases := []refused{
		bad("claims of another token", part[0]+"."+claims+"."+part[2], signature),
		bad("header of another token", b64(encode(t, b.ed.header().with("typ", nil)))+"."+part[1]+"."+part[2], signature),
		bad("signature of another token", part[0]+"."+part[1]+"."+strings.Split(b.ed.token(t, goodClaims(issuerTwo)), ".")[2], signature),
		bad("one bit", forge(b.ed, func(in []byte) []byte { s := b.ed.sign(in); s[10] ^= 1; return s }), signature),
		bad("short", forge(b.ed, func(in []byte) []byte { return b.ed.sign(in)[:63] }), signature),
		bad("long", forge(b.ed, func(in []byte) []byte { return append(b.ed.sign(in), 0) }), signature),
		bad("zeros, EdDSA", forge(b.ed, func([]byte) []byte { return make([]byte, 64) }), signature),
		bad("zeros, ES256 (CVE-2022-21449)", forge(b.ec, func([]byte) []byte { return make([]byte, 64) }), signature),
		bad("ES256 as ASN.1", forge(b.ec, func(in []byte) []byte { return asn1Of(t, b.ec.sign(in)) }), signature),
		bad("ES256 short", forge(b.ec, func(in []byte) []byte { return b.ec.sign(in)[:63] }), signature),
		bad("ES256 with zero in front", forge(b.ec, func(in []byte) []byte { return append([]byte{0, 0}, b.ec.sign(in)...) }), signature),
		bad("ES256 beyond the order", forge(b.ec, func(in []byte) []byte { return beyondOrder(b.ec.sign(in)) }), signature),
		bad("RSA under EdDSA", forge(b.ed, func(in []byte) []byte {
			digest := sha256.Sum256(in)
			s, err := rsa.SignPKCS1v15(rand.Reader, private, 5, digest[:])
			require.NoError(t, err)
			return s
		}), signature),
	}
	return cases
}

func asn1Of(t *testing.T, signature []byte) []byte {
	t.Helper()
	der, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]),
	})
	require.NoError(t, err)
	return der
}

// beyondOrder sets s to all ones, which is more than the order of the group.
func beyondOrder(signature []byte) []byte {
	for i := 32; i < 64; i++ {
		signature[i] = 0xff
	}
	return signature
}

// No address in a token is ever asked for anything.
func TestVerifyNeverFollowsAToken(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	b := newBench(t)
	for _, c := range badHeaders(t, b, server.URL) {
		refuses(t, b.verifier, c.raw, c.reason, c.text)
	}
	for _, iss := range []string{server.URL, server.URL + "/.well-known/openid-configuration"} {
		refuses(t, b.verifier, b.ed.token(t, b.oneClaims.with("iss", iss)), refusal.TokenInvalid, "iss")
	}
	refuses(t, b.verifier, b.ed.forge(t, b.ed.header().with("kid", server.URL), b.oneClaims), refusal.TokenInvalid, "key is not")
	require.Zero(t, requests.Load())
}
