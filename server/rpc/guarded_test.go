package rpc

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const goodSend = `{"peerUserId":"bob","messageId":"01890a5d-ac96-774b-bcce-b302099a8057","content":{"text":{"body":"x"}}}`

// asAlice calls as alice.
func asAlice(t *testing.T, client *http.Client, url, body string) (status int, retryAfter []string) {
	t.Helper()
	status, retryAfter, err := tryAsAlice(t, client, url, body)
	require.NoError(t, err)
	return status, retryAfter
}

// tryAsAlice is asAlice where there may be no answer.
func tryAsAlice(t *testing.T, client *http.Client, url, body string) (status int, retryAfter []string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+aliceToken)
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res.StatusCode, res.Header.Values("Retry-After"), err
}

// guarded serves as the program does, with its bounds of connections.
func guarded(t *testing.T, cfg Config, conns *Conns) (addr string) {
	t.Helper()
	h, err := New(cfg)
	require.NoError(t, err)
	srv := NewHTTPServer(t.Context(), h, nil, cfg.Log)
	conns.Watch(srv)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go srv.Serve(conns.Listen(ln)) //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String()
}

// unhurried lets strangers idle, for tests that are not about that: on a busy machine everybody is slow.
func unhurried(c *Conns) *Conns {
	c.idle = time.Hour
	return c
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn := tryDial(t, nil, addr)
	require.NotNil(t, conn)
	return conn
}

// tryDial dials from an address, any if it is nil. It returns nil when the connection was closed so soon that dialing fails.
func tryDial(t *testing.T, from net.IP, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).DialContext(t.Context(), "tcp", addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// closed waits until the server has closed the connection, and fails after a while.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.Copy(io.Discard, conn)
	if err != nil {
		ne, ok := err.(net.Error) //nolint:errorlint // as net returns it
		require.False(t, ok && ne.Timeout(), "still open")
	}
}

func honest(t *testing.T, addr string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	requireServed(t, client, addr)
}

func requireServed(t *testing.T, client *http.Client, addr string) {
	t.Helper()
	status, _ := asAlice(t, client, "http://"+addr+sendPath, goodSend)
	require.Equal(t, http.StatusOK, status)
}
