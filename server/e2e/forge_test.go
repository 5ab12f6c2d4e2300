package e2e

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// members is a JSON object that a token is made of.
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

func segment(t *testing.T, v any) string {
	t.Helper()
	raw, ok := v.(string)
	if !ok {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		raw = string(data)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(raw))
}

// forger signs whatever it is given, with the standard library alone.
type forger struct {
	kid, alg string
	jwk      members
	public   []byte
	sign     func(input []byte) []byte
}

func newEdForger(t *testing.T, kid string) *forger {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return &forger{kid: kid, alg: "EdDSA", public: public,
		jwk:  members{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(public)},
		sign: func(input []byte) []byte { return ed25519.Sign(private, input) }}
}

func newECForger(t *testing.T, kid string) *forger {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	point, err := private.PublicKey.Bytes()
	require.NoError(t, err)
	return &forger{kid: kid, alg: "ES256", public: point,
		jwk: members{"kty": "EC", "crv": "P-256", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(point[1:33]),
			"y": base64.RawURLEncoding.EncodeToString(point[33:])},
		sign: func(input []byte) []byte {
			digest := sha256.Sum256(input)
			r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
			require.NoError(t, err)
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}}
}

// mac is a forger that signs with a secret, such as a key that is public.
func mac(secret []byte) *forger {
	return &forger{sign: func(input []byte) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write(input)
		return h.Sum(nil)
	}}
}

func (f *forger) header() members { return members{"alg": f.alg, "kid": f.kid, "typ": "JWT"} }

// forge makes a token of any header and claims: members, or JSON that is taken as it is.
func (f *forger) forge(t *testing.T, header, claims any) string {
	t.Helper()
	input := segment(t, header) + "." + segment(t, claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(f.sign([]byte(input)))
}

func (f *forger) token(t *testing.T, claims any) string {
	t.Helper()
	return f.forge(t, f.header(), claims)
}

// claimsOf are good claims of alice's phone, half an hour old.
func claimsOf(issuer string) members {
	now := time.Now()
	return members{"iss": issuer, "aud": "parley", "sub": "alice", "did": "phone",
		"iat": now.Add(-30 * time.Minute).Unix(), "exp": now.Add(30 * time.Minute).Unix()}
}

// keyServer serves a key set over HTTP and notes when it was asked.
type keyServer struct {
	*httptest.Server
	t *testing.T

	mu    sync.Mutex
	body  []byte
	asked []time.Time
}

func newKeyServer(t *testing.T, keys ...*forger) *keyServer {
	k := &keyServer{t: t}
	k.publish(keys...)
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.asked = append(k.asked, time.Now())
		_, _ = w.Write(k.body)
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keyServer) publish(keys ...*forger) {
	var all []members
	for _, f := range keys {
		all = append(all, f.jwk)
	}
	body, err := json.Marshal(members{"keys": all})
	require.NoError(k.t, err)
	k.mu.Lock()
	k.body = body
	k.mu.Unlock()
}

// readings are when the key set was asked for.
func (k *keyServer) readings() []time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]time.Time(nil), k.asked...)
}
