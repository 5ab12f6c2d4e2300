package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

// Once a node drains, each answer makes its client use another connection, over HTTP/1.1 and HTTP/2.
func TestDrainMovesClientsToOtherConnections(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			d := &drain{next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.RemoteAddr)) })}
			srv := httptest.NewUnstartedServer(d)
			srv.EnableHTTP2 = http2
			srv.StartTLS()
			defer srv.Close()
			client := srv.Client()
			call := func() string {
				res, err := client.Get(srv.URL) //nolint:noctx // a test
				require.NoError(t, err)
				defer func() { _ = res.Body.Close() }()
				require.Equal(t, name[:6], res.Proto[:6])
				from := make([]byte, 64)
				n, _ := res.Body.Read(from)
				return string(from[:n])
			}
			first := call()
			require.Equal(t, first, call(), "connections are kept before")
			d.on.Store(true)
			require.Equal(t, first, call(), "the call that learns of it still comes through")
			require.Eventually(t, func() bool { return call() != first }, time.Minute, time.Millisecond)
		})
	}
}

// The grace time is served in full, and no longer than the shutdown may take.
func TestDrainWaits(t *testing.T) {
	clock := clockwork.NewFakeClock()
	d := &drain{}
	done := make(chan struct{})
	go func() { defer close(done); d.wait(t.Context(), clock, time.Second) }()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
	require.True(t, d.on.Load())
	clock.Advance(999 * time.Millisecond)
	select {
	case <-done:
		t.Fatal("too early")
	default:
	}
	clock.Advance(time.Millisecond)
	<-done
	over, cancel := context.WithCancel(t.Context())
	cancel()
	d.wait(over, clock, time.Hour)
	d.wait(t.Context(), clock, 0)
}
