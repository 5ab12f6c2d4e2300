package auth_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// keyServer is a key server whose answer the test sets. It counts requests.
type keyServer struct {
	*httptest.Server
	requests atomic.Int64
	answer   atomic.Pointer[http.HandlerFunc]
}

func newKeyServer(t *testing.T) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) serve(f http.HandlerFunc) { s.answer.Store(&f) }

func (s *keyServer) serveDocument(document []byte) {
	s.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(document) })
}

// lockedBuffer takes log lines of several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// urlBench is a Verifier over a key server.
type urlBench struct {
	server   *keyServer
	clock    *clockwork.FakeClock
	log      *lockedBuffer
	source   *auth.URLSource
	verifier *auth.Verifier
	claims   members
}

func newURLBench(t *testing.T, answer http.HandlerFunc, change ...func(*auth.URLSourceConfig)) *urlBench {
	t.Helper()
	b := &urlBench{
		server: newKeyServer(t), clock: clockwork.NewFakeClockAt(start), log: &lockedBuffer{},
		claims: goodClaims(issuerOne).with("iat", start.Unix(), "exp", start.Add(29*24*time.Hour).Unix()),
	}
	b.server.serve(answer)
	cfg := auth.URLSourceConfig{
		URL: b.server.URL + "/jwks.json?token=hidden", Clock: b.clock, Log: slog.New(slog.NewTextHandler(b.log, nil)),
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	b.source, err = auth.NewURLSource(cfg)
	require.NoError(t, err)
	t.Cleanup(b.source.Close)
	b.verifier, err = auth.NewVerifier(auth.VerifierConfig{
		Clock: b.clock, Issuers: []auth.Issuer{{Name: issuerOne, Audience: "parley", Source: b.source}},
	})
	require.NoError(t, err)
	return b
}

func document(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }
}

// idle waits until the source has nothing to do but wait for its timer.
func (b *urlBench) idle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, b.clock.BlockUntilContext(ctx, 1))
}

// pass lets time pass until a regular reading is due, and waits for its end.
func (b *urlBench) pass(t *testing.T, d time.Duration) {
	t.Helper()
	b.idle(t)
	b.clock.Advance(d)
	b.idle(t)
}

// The first tokens wait for the first reading.
func TestURLSourceStart(t *testing.T) {
	key := newEd25519(t, "k1")
	b := newURLBench(t, document(jwks(t, key)))
	accepts(t, b.verifier, key.token(t, b.claims))
	require.EqualValues(t, 1, b.server.requests.Load())
}

func TestURLSourceRotation(t *testing.T) {
	before, after := newEd25519(t, "k1"), newES256(t, "k2")
	b := newURLBench(t, document(jwks(t, before)))
	old, fresh := before.token(t, b.claims), after.token(t, b.claims)
	accepts(t, b.verifier, old)

	b.server.serveDocument(jwks(t, before, after))
	accepts(t, b.verifier, fresh) // A new kid counts at once,
	accepts(t, b.verifier, old)
	require.EqualValues(t, 2, b.server.requests.Load())

	b.server.serveDocument(jwks(t, after))
	accepts(t, b.verifier, old)
	b.pass(t, auth.DefaultRefreshInterval) // and a key that is gone counts until the next reading.
	require.EqualValues(t, 3, b.server.requests.Load())
	refuses(t, b.verifier, old, refusal.TokenInvalid, "key is not one of its issuer's")
	accepts(t, b.verifier, fresh)
}

// However many unknown kids arrive, the key server is asked once in ten seconds.
func TestURLSourceUnknownKeyIDs(t *testing.T) {
	key := newEd25519(t, "k1")
	b := newURLBench(t, document(jwks(t, key)))
	accepts(t, b.verifier, key.token(t, b.claims))
	flood := func() {
		answers := make(chan error)
		for i := range 50 {
			raw := key.forge(t, key.header().with("kid", fmt.Sprintf("x%d", i)), b.claims)
			go func() {
				_, err := b.verifier.Verify(t.Context(), raw)
				answers <- err
			}()
		}
		for range 50 {
			require.ErrorIs(t, <-answers, refusal.New(refusal.TokenInvalid, ""))
		}
	}
	flood()
	require.EqualValues(t, 2, b.server.requests.Load())
	b.clock.Advance(auth.MissInterval - 1)
	flood()
	require.EqualValues(t, 2, b.server.requests.Load())
	b.clock.Advance(1)
	flood()
	require.EqualValues(t, 3, b.server.requests.Load())
	accepts(t, b.verifier, key.token(t, b.claims))
}

func TestURLSourceServerDown(t *testing.T) {
	key := newEd25519(t, "k1")
	b := newURLBench(t, document(jwks(t, key)))
	good, stranger := key.token(t, b.claims), newEd25519(t, "k2").token(t, b.claims)
	accepts(t, b.verifier, good)
	b.idle(t)
	b.server.CloseClientConnections()
	b.server.Listener.Close()

	refuses(t, b.verifier, stranger, refusal.Unavailable, "cannot be had")
	b.pass(t, auth.DefaultRefreshInterval)
	accepts(t, b.verifier, good)
	require.Contains(t, b.log.String(), "could not be read")

	b.clock.Advance(auth.KeepKeys - auth.DefaultRefreshInterval)
	accepts(t, b.verifier, good)
	b.clock.Advance(1)
	refuses(t, b.verifier, good, refusal.Unavailable, "cannot be had")
}

// A node starts without its issuer's key server and accepts tokens 15 s after that is back.
func TestURLSourceStartsBeforeTheServer(t *testing.T) {
	key := newEd25519(t, "k1")
	b := newURLBench(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	good := key.token(t, b.claims)
	refuses(t, b.verifier, good, refusal.Unavailable, "cannot be had")
	_, err := b.source.Keys()
	require.ErrorIs(t, err, auth.ErrKeysUnavailable)

	b.server.serveDocument(jwks(t, key))
	b.pass(t, 15*time.Second)
	_, err = b.source.Keys()
	require.NoError(t, err)
	accepts(t, b.verifier, good)
}

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
			b.clock.Advance(auth.MissInterval)
			accepts(t, b.verifier, good)
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

// A caller waits for a slow key server no longer than it wants to.
func TestURLSourceRefreshEndsWithItsContext(t *testing.T) {
	b := newURLBench(t, hang, func(cfg *auth.URLSourceConfig) { cfg.Timeout = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	raw, got := newEd25519(t, "k1").token(t, b.claims), make(chan error)
	go func() {
		_, err := b.verifier.Verify(ctx, raw)
		got <- err
	}()
	cancel()
	require.ErrorIs(t, <-got, context.Canceled)
}

// Close ends a reading that hangs, and those who wait for it.
func TestURLSourceClose(t *testing.T) {
	asked := make(chan struct{}, 1)
	b := newURLBench(t, func(w http.ResponseWriter, r *http.Request) { asked <- struct{}{}; hang(w, r) })
	<-asked
	raw, got := newEd25519(t, "k1").token(t, b.claims), make(chan error)
	go func() {
		_, err := b.verifier.Verify(t.Context(), raw)
		got <- err
	}()
	b.source.Close()
	require.ErrorIs(t, <-got, refusal.New(refusal.Unavailable, ""))
	require.Empty(t, b.log.String(), "shutting down is no failure of the key server")
	_, err := b.source.Refresh(t.Context()) // Nothing is started any more, and nobody waits.
	require.ErrorIs(t, err, auth.ErrKeysUnavailable)
	_, err = b.source.Refresh(t.Context())
	require.ErrorIs(t, err, auth.ErrKeysUnavailable)
	b.source.Close() // Again is allowed.
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
