package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/e2e/rig"
)

// A14: what is no good token is refused and what is one is not, over HTTP as devices call; nothing that a token names is
// ever asked for; keys rotate, and a refreshed set replaces the former one.
func TestTokens(t *testing.T) {
	t.Parallel()
	var strange atomic.Int64
	decoy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strange.Add(1) }))
	t.Cleanup(decoy.Close)
	ed, ec, foreign := newEdForger(t, "ed-1"), newECForger(t, "ec-1"), newEdForger(t, "other-1")
	keys, began := newKeyServer(t, ed, ec), time.Now()
	s := rig.Start(t, "PARLEY_JWKS_URL="+keys.URL, "PARLEY_TOKEN_ISSUER=app")
	own := s.Token("alice", "phone") // of Parley's own issuer; makes user and device
	accepted, refused := 0, 0
	report(t, "A14", "good and bad tokens over HTTP, keys rotated", "0 wrong accepts, 0 wrong refusals, no request to a URL from a token",
		func() string {
			return fmt.Sprintf("%d accepted, %d refused, %d requests to URLs of tokens", accepted, refused, strange.Load())
		})

	for name := range goodTokens(t, ed, ec, own) {
		var minted time.Time
		var status int
		var body string
		for range 100 { // one of them has 14 s left, which may pass on a busy machine
			minted = time.Now()
			if status, body = present(t, s.URL, goodTokens(t, ed, ec, own)[name]); time.Since(minted) < 10*time.Second {
				break
			}
		}
		require.Equal(t, http.StatusOK, status, "%s: %s", name, body)
		accepted++
	}
	bad := badTokens(t, ed, ec, foreign, own, decoy.URL)
	require.GreaterOrEqual(t, len(bad)+accepted, 40)
	for name, token := range bad {
		status, body := present(t, s.URL, token)
		switch {
		case len(token) > 16<<10: // net/http's bound of the header comes first
			require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, status, name)
		case strings.HasPrefix(name, "expired"):
			require.Equal(t, http.StatusUnauthorized, status, "%s: %s", name, body)
			require.Contains(t, body, "TOKEN_EXPIRED", name)
		case strings.HasPrefix(name, "device"):
			require.Equal(t, http.StatusUnauthorized, status, "%s: %s", name, body)
			require.Contains(t, body, "DEVICE_REVOKED", name)
		default:
			require.Equal(t, http.StatusUnauthorized, status, "%s: %s", name, body)
			require.Contains(t, body, "TOKEN_INVALID", name)
			require.NotContains(t, body, token, name)
		}
		refused++
	}

	// The issuer goes over to another key. The first token of it finds it, 10 s after the last unknown kid at the latest,
	// and with the set that has it the former key is gone, also for tokens that were accepted before.
	next := newEdForger(t, "ed-2")
	keys.publish(ec, next)
	require.Eventually(t, func() bool {
		status, _ := present(t, s.URL, next.token(t, claimsOf("app")))
		return status == http.StatusOK
	}, patience, 200*time.Millisecond)
	for name, c := range map[string]struct {
		token  string
		status int
	}{
		"withdrawn":     {ed.token(t, claimsOf("app")), http.StatusUnauthorized},
		"kept":          {ec.token(t, claimsOf("app")), http.StatusOK},
		"Parley's own":  {own, http.StatusOK},
		"never one yet": {newEdForger(t, "ed-3").token(t, claimsOf("app")), http.StatusUnauthorized},
	} {
		status, body := present(t, s.URL, c.token)
		require.Equal(t, c.status, status, "%s: %s", name, body)
	}
	// The first reading is the start's, the second one the first unknown kid's; further ones are 10 s apart at least, as the
	// server counts: one may be late here and the next one not.
	require.LessOrEqual(t, len(keys.readings()), 2+int(time.Since(began)/(10*time.Second)))
	require.Zero(t, strange.Load())
}

// present calls with a token, and returns status and body.
func present(t *testing.T, url, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/sessions", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(raw)
}

func goodTokens(t *testing.T, ed, ec *forger, own string) map[string]string {
	now, good := time.Now(), claimsOf("app")
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	return map[string]string{
		"EdDSA": ed.token(t, good), "ES256": ec.token(t, good), "of Parley's own issuer": own,
		"no typ":                ed.forge(t, ed.header().with("typ", nil), good),
		"typ at+jwt":            ed.forge(t, ed.header().with("typ", "at+jwt"), good),
		"aud among others":      ed.token(t, good.with("aud", []string{"web", "parley"})),
		"jti":                   ed.token(t, good.with("jti", "1f0c2e")),
		"claims of others":      ed.token(t, good.with("scope", "x", "EXP", 1)),
		"exp within the leeway": ed.token(t, good.with("exp", at(-15*time.Second))),
		"iat within the leeway": ed.token(t, good.with("iat", at(20*time.Second))),
		"nbf within the leeway": ed.token(t, good.with("nbf", at(20*time.Second))),
		"fractions of a second": ed.token(t, good.with("exp", float64(now.Unix())+60.5)),
		"the longest lifetime":  ed.token(t, good.with("iat", at(0), "exp", at(0)+30*86400)),
	}
}

func badTokens(t *testing.T, ed, ec, foreign *forger, own, decoy string) map[string]string {
	now, good, header := time.Now(), claimsOf("app"), ed.header()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	part := strings.Split(ed.token(t, good), ".")
	edPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ed.public})
	return map[string]string{
		"alg none":                        part[0] + "." + part[1] + ".",
		"alg none, said":                  segment(t, header.with("alg", "none")) + "." + part[1] + ".",
		"alg none, with a signature":      ed.forge(t, header.with("alg", "none"), good),
		"alg nOnE":                        ed.forge(t, header.with("alg", "nOnE"), good),
		"alg missing":                     ed.forge(t, header.with("alg", nil), good),
		"HS256 with the public key":       mac(ed.public).forge(t, header.with("alg", "HS256"), good),
		"HS256 with the public key's PEM": mac(edPEM).forge(t, header.with("alg", "HS256"), good),
		"HS256 with the JWK":              mac([]byte(segment(t, ed.jwk))).forge(t, header.with("alg", "HS256"), good),
		"a MAC that says EdDSA":           mac(ed.public).forge(t, header, good),
		"RS256":                           ed.forge(t, header.with("alg", "RS256"), good),
		"ES384":                           ec.forge(t, ec.header().with("alg", "ES384"), good),
		"wrong alg for kid, ES256":        ed.forge(t, header.with("alg", "ES256"), good),
		"wrong alg for kid, EdDSA":        ec.forge(t, ec.header().with("alg", "EdDSA"), good),
		"kid of the other key":            ed.forge(t, header.with("kid", "ec-1", "alg", "ES256"), good),
		"kid missing, two keys":           ed.forge(t, header.with("kid", nil), good),
		"kid unknown":                     foreign.token(t, good),
		"kid of another issuer":           ed.token(t, good.with("iss", "parley")),
		"key of a stranger":               foreign.forge(t, header, good),
		"kid is an address":               ed.forge(t, header.with("kid", decoy+"/kid"), good),
		"kid is a path":                   ed.forge(t, header.with("kid", "../../../../etc/passwd"), good),
		"jku":                             foreign.forge(t, foreign.header().with("jku", decoy+"/jku"), good),
		"jku of a good key":               ed.forge(t, header.with("jku", decoy+"/jku"), good),
		"x5u":                             ed.forge(t, header.with("x5u", decoy+"/x5u"), good),
		"jwk":                             foreign.forge(t, foreign.header().with("jwk", foreign.jwk), good),
		"x5c":                             ed.forge(t, header.with("x5c", []string{"MIIB"}), good),
		"crit":                            ed.forge(t, header.with("crit", []string{"exp"}), good),
		"typ of something else":           ed.forge(t, header.with("typ", "logout+jwt"), good),
		"iss of a stranger":               ed.token(t, good.with("iss", "evil")),
		"iss is an address":               ed.token(t, good.with("iss", decoy+"/iss")),
		"iss missing":                     ed.token(t, good.with("iss", nil)),
		"aud of another":                  ed.token(t, good.with("aud", "payments")),
		"aud missing":                     ed.token(t, good.with("aud", nil)),
		"sub missing":                     ed.token(t, good.with("sub", nil)),
		"sub too long":                    ed.token(t, good.with("sub", strings.Repeat("a", 65))),
		"did missing":                     ed.token(t, good.with("did", nil)),
		"exp missing":                     ed.token(t, good.with("exp", nil)),
		"exp in quotes":                   ed.token(t, good.with("exp", fmt.Sprint(at(time.Hour)))),
		"exp too far":                     ed.token(t, good.with("iat", at(0), "exp", at(0)+30*86400+1)),
		"exp before iat":                  ed.token(t, good.with("iat", at(0), "exp", at(-time.Second))),
		"expired past the leeway":         ed.token(t, good.with("exp", at(-31*time.Second))),
		"expired long ago":                ed.token(t, good.with("iat", 1, "exp", 2)),
		"iat missing":                     ed.token(t, good.with("iat", nil)),
		"iat past the leeway":             ed.token(t, good.with("iat", at(5*time.Minute))),
		"nbf past the leeway":             ed.token(t, good.with("nbf", at(5*time.Minute))),
		"claims twice":                    ed.token(t, fmt.Sprintf(`{"sub":"mallory",%s`, string(mustJSON(t, good))[1:])),
		"claims are no object":            ed.token(t, `[]`),
		"claims of another token":         part[0] + "." + segment(t, good.with("sub", "mallory")) + "." + part[2],
		"signature of another token":      part[0] + "." + part[1] + "." + strings.Split(own, ".")[2],
		"signature cut":                   part[0] + "." + part[1] + "." + part[2][:80],
		"signature of zeros":              part[0] + "." + part[1] + "." + strings.Repeat("A", 86),
		"five parts":                      strings.Join(part, ".") + ".AAAA.AAAA",
		"padding":                         strings.Join(part, ".") + "==",
		"4,097 bytes":                     ed.token(t, good.with("x", strings.Repeat("x", 4097*3/4))),
		"1 MB":                            ed.token(t, good.with("x", strings.Repeat("x", 1<<20))),
		"a million dots":                  strings.Repeat(".", 1_000_000),
		"4,096 dots":                      strings.Repeat(".", 4096),
		"the admin key":                   "x" + strings.ReplaceAll(rig.AdminKey, " ", "-"),
		"device that is unknown":          ed.token(t, good.with("did", "never-registered")),
		"device of an unknown user":       ed.token(t, good.with("sub", "nobody")),
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return raw
}

// Parley's own keys rotate without a restart and without logging anybody out: while both keys are there the former one's
// tokens hold, and the published set has both; when the former one is taken away its tokens are refused.
func TestOwnKeysRotate(t *testing.T) {
	dir := t.TempDir()
	writeKey := func(name string) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(private)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".new"),
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
		require.NoError(t, os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)))
	}
	writeKey("a.pem")
	s := rig.Start(t, "PARLEY_SIGNING_KEY="+dir)
	former := s.Token("alice", "phone")
	require.Equal(t, 1, publishedKeys(t, s.URL))

	writeKey("b.pem")
	require.Eventually(t, func() bool { return publishedKeys(t, s.URL) == 2 }, patience, 50*time.Millisecond)
	status, body := present(t, s.URL, former)
	require.Equal(t, http.StatusOK, status, body)
	d := s.NewDeviceWith("alice", "phone", former)
	d.Connect()
	d.WaitCaughtUp(1)

	require.NoError(t, os.Remove(filepath.Join(dir, "a.pem")))
	require.Equal(t, "TOKEN_INVALID", reason(d.Ended()), "%v", d.Ended())
	status, body = present(t, s.URL, former)
	require.Equal(t, http.StatusUnauthorized, status, body)
	require.Equal(t, 1, publishedKeys(t, s.URL))
	status, body = present(t, s.URL, s.Token("alice", "phone"))
	require.Equal(t, http.StatusOK, status, body)
}

// publishedKeys is how many keys /.well-known/jwks.json has; none of them may be private.
func publishedKeys(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url+"/.well-known/jwks.json", http.NoBody)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, http.StatusOK, res.StatusCode)
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	var set struct{ Keys []map[string]any }
	require.NoError(t, json.NewDecoder(bytes.NewReader(raw)).Decode(&set))
	for _, k := range set.Keys {
		require.NotContains(t, k, "d")
	}
	return len(set.Keys)
}
