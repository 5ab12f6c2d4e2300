package rpc

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The bounds of HTTP are set, and headers past theirs are refused.
func TestHTTPBounds(t *testing.T) {
	srv := NewHTTPServer(t.Context(), nil, nil, slog.New(slog.DiscardHandler))
	require.Equal(t, 10*time.Second, srv.ReadHeaderTimeout)
	require.Equal(t, 10*time.Second, strangerIdle)
	require.Equal(t, 2*time.Minute, srv.IdleTimeout)
	require.Zero(t, srv.ReadTimeout, "it would cut streams")
	require.Zero(t, srv.WriteTimeout, "it would cut streams")
	require.Positive(t, srv.HTTP2.SendPingTimeout)
	require.Positive(t, srv.HTTP2.PingTimeout)
	require.Positive(t, srv.HTTP2.WriteByteTimeout)

	addr := guarded(t, (&fakes{send: sent}).config(t), unhurried(NewConns(0, 0, nil, nil)))
	for _, client := range []*http.Client{{Transport: &http.Transport{}}, h2c(t)} {
		// In this order: a client that speaks first has not been told the bound yet.
		for _, c := range []struct{ size, want int }{{8 << 10, http.StatusOK}, {32 << 10, http.StatusRequestHeaderFieldsTooLarge}} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+sendPath, strings.NewReader(goodSend))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+aliceToken)
			req.Header.Set("X-Padding", strings.Repeat("x", c.size))
			res, err := client.Do(req)
			if err != nil { // an HTTP/2 client is told the bound beforehand, and keeps to it
				require.ErrorContains(t, err, "larger than peer's advertised limit")
				require.NotEqual(t, http.StatusOK, c.want)
				continue
			}
			res.Body.Close()
			require.Equal(t, c.want, res.StatusCode, "%d bytes", c.size)
		}
	}
}
