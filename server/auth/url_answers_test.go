package auth_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// What is no key set does not replace the last good one.
func TestURLSourceBadAnswers(t *testing.T) {
	key := newEd25519(t, "k1")
	set, strangers := jwks(t, key), jwks(t, newEd25519(t, "k2"))
	padded := append(bytes.Clone(set), bytes.Repeat([]byte(" "), auth.MaxKeySetBytes)...)
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = w.Write(strangers)
	}))
	defer other.Close()
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	b := newURLBench(t, document(jwks(t, key)))
	good, stranger := key.token(t, b.claims), newEd25519(t, "k2").token(t, b.claims)
	accepts(t, b.verifier, good)
	for name, answer := range map[string]http.HandlerFunc{
		"404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"204": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"203 with a set": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
			_, _ = w.Write(set)
		},
		"empty":              document(nil),
		"HTML":               document([]byte("<!doctype html>")),
		"private key":        document(encode(t, members{"keys": []members{key.jwk.with("d", b64(key.ed.Seed()))}})),
		"one byte too large": document(padded[:auth.MaxKeySetBytes+1]),
		"endless":            endless,
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "900")
			_, _ = w.Write(set)
		},
		"huge header": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 65<<10))
			_, _ = w.Write(set)
		},
		"broken connection":     func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"redirect elsewhere":    redirect(other.URL + "/jwks.json"),
		"redirect to https":     redirect("https" + b.server.URL[len("http"):] + "/jwks.json"),
		"redirect to a file":    redirect("file:///etc/passwd"),
		"redirect without end":  redirect("/again"),
		"redirect to nowhere":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) },
		"redirect by a name":    redirect("http://localhost:1/jwks.json"),
		"redirect with user":    redirect("//user@" + other.URL[len("http://"):] + "/"),
		"gzip without a header": document([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")),
	} {
		t.Run(name, func(t *testing.T) {
			b.server.serve(answer)
			b.clock.Advance(auth.MissInterval)
			refuses(t, b.verifier, stranger, refusal.Unavailable, "cannot be had")
			accepts(t, b.verifier, good)
		})
	}
	require.Zero(t, elsewhere.Load())
	require.NotContains(t, b.log.String(), "hidden", "the URL's query may be a secret")

	b.server.serveDocument(padded[:auth.MaxKeySetBytes])
	b.clock.Advance(auth.MissInterval)
	refuses(t, b.verifier, stranger, refusal.TokenInvalid, "key is not one of its issuer's")
	require.Contains(t, b.log.String(), "can be read again")
}

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(bytes.Repeat([]byte(" "), 4096)); err != nil {
			return
		}
	}
}

func TestURLSourceRedirectOnTheSameHost(t *testing.T) {
	key := newEd25519(t, "k1")
	set := jwks(t, key)
	b := newURLBench(t, func(w http.ResponseWriter, r *http.Request) {
		if hops := r.URL.Query().Get("hop"); hops != "xxx" {
			http.Redirect(w, r, "/jwks.json?hop="+hops+"x", http.StatusTemporaryRedirect)
			return
		}
		_, _ = w.Write(set)
	})
	accepts(t, b.verifier, key.token(t, b.claims))
	require.EqualValues(t, 4, b.server.requests.Load())
}

// A key server that does not come to an end is given up at the timeout.
func TestURLSourceSlowServer(t *testing.T) {
	key := newEd25519(t, "k1")
	for name, answer := range map[string]http.HandlerFunc{
		"header": hang,
		"body": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[`))
			flush(w)
			hang(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newURLBench(t, answer, func(cfg *auth.URLSourceConfig) { cfg.Timeout = time.Second })
			good := key.token(t, b.claims)
			refuses(t, b.verifier, good, refusal.Unavailable, "cannot be had")
			require.Contains(t, b.log.String(), "deadline exceeded")

			b.server.serveDocument(jwks(t, key))
			require.Eventually(t, func() bool { // a second may be little on a busy machine
				b.clock.Advance(auth.MissInterval)
				_, err := b.verifier.Verify(t.Context(), good)
				return err == nil
			}, time.Minute, time.Millisecond)
		})
	}
}

// A redirect from https to http would put the keys into anybody's hands on the way.
func TestURLSourceRefusesRedirectToHTTP(t *testing.T) {
	var schemes []string // Written by one reading at a time, read after Close.
	source, err := auth.NewURLSource(auth.URLSourceConfig{
		URL: "https://keys.example/jwks.json",
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			schemes = append(schemes, r.URL.Scheme)
			answer := httptest.NewRecorder()
			http.Redirect(answer, r, "http://keys.example/jwks.json", http.StatusFound)
			return answer.Result(), nil
		}),
	})
	require.NoError(t, err)
	_, err = source.Refresh(t.Context())
	require.ErrorIs(t, err, auth.ErrKeysUnavailable)
	source.Close()
	require.NotEmpty(t, schemes)
	require.NotContains(t, schemes, "http")
}

func TestNewURLSourceRefuses(t *testing.T) {
	for name, cfg := range map[string]auth.URLSourceConfig{
		"no URL":               {},
		"relative":             {URL: "/jwks.json"},
		"no host":              {URL: "https:///jwks.json"},
		"opaque":               {URL: "https:keys.example"},
		"control character":    {URL: "https://keys.example/\n"},
		"file":                 {URL: "file:///etc/jwks.json"},
		"ftp":                  {URL: "ftp://keys.example/jwks.json"},
		"http":                 {URL: "http://keys.example/jwks.json"},
		"http on a private IP": {URL: "http://10.0.0.1/jwks.json"},
		"user and password":    {URL: "https://user:s3cret@keys.example/jwks.json"},
		"short interval":       {URL: "https://keys.example", RefreshInterval: time.Millisecond},
		"negative interval":    {URL: "https://keys.example", RefreshInterval: -time.Hour},
		"negative timeout":     {URL: "https://keys.example", Timeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := auth.NewURLSource(cfg)
			require.Error(t, err)
			require.Nil(t, source)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
	refuseAll := roundTripper(func(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed })
	for _, cfg := range []auth.URLSourceConfig{
		{URL: "https://keys.example/jwks.json"}, {URL: "http://keys.example", AllowHTTP: true},
		{URL: "http://localhost:1"}, {URL: "http://[::1]:1/"}, {URL: "http://127.1.2.3"},
	} {
		cfg.Transport = refuseAll
		source, err := auth.NewURLSource(cfg)
		require.NoError(t, err, cfg.URL)
		source.Close()
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
