package auth_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
		URL: b.server.URL + "/jwks.json?token=hidden", Timeout: time.Minute, Clock: b.clock, Log: slog.New(slog.NewTextHandler(b.log, nil)),
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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
