package rig

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Addrs are the addresses of nodes' APIs.
func Addrs(nodes ...*Server) (out []string) {
	for _, s := range nodes {
		out = append(out, s.URL[len("http://"):])
	}
	return out
}

// Over makes a client speak to the given addresses, one at a time, beginning with the first: to the next one whenever a
// call could not be made, as behind a balancer. To be called before the client's first call.
func (c *Client) Over(addrs ...string) {
	c.ways = &ways{next: c.HTTP.Transport, addrs: addrs}
	c.HTTP.Transport = c.ways
}

// Move makes a client that is Over several addresses go on at the next one.
func (c *Client) Move() { c.ways.at.Add(1) }

// At is which of its addresses a client speaks to.
func (c *Client) At() int { return int(c.ways.at.Load()) % len(c.ways.addrs) }

// ways sends calls to one of several addresses.
type ways struct {
	next  http.RoundTripper
	addrs []string
	at    atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (w *ways) RoundTrip(req *http.Request) (*http.Response, error) {
	at := w.at.Load()
	req = req.Clone(req.Context())
	req.URL.Host = w.addrs[int(at)%len(w.addrs)]
	req.Host = req.URL.Host
	res, err := w.next.RoundTrip(req)
	if err != nil && !errors.Is(req.Context().Err(), context.Canceled) {
		w.at.CompareAndSwap(at, at+1)
	}
	return res, err
}

// Torn makes a client's connections end by themselves, each after a random number of bytes received, up to most, or a
// random time: in the middle of frames too. To be called before the client's first call and before Over.
func (c *Client) Torn(most int, after time.Duration) {
	tr, ok := c.HTTP.Transport.(*http.Transport)
	if !ok {
		c.s.t.Fatal("a client must be torn before anything else is done to its connections")
	}
	dialer := &net.Dialer{}
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil || !c.tearing.Load() {
			return conn, err
		}
		t := &torn{Conn: conn, cuts: &c.cuts, left: 200 + rand.IntN(most)}                          //nolint:gosec // a test
		t.timer = time.AfterFunc(after/2+rand.N(after), func() { c.cuts.Add(1); _ = conn.Close() }) //nolint:gosec // a test
		return t, nil
	}
	c.tearing.Store(true)
}

// Whole ends what Torn began, for connections that are made from now on.
func (c *Client) Whole() { c.tearing.Store(false) }

// Cuts is how many connections Torn has ended so far.
func (c *Client) Cuts() int { return int(c.cuts.Load()) }

// torn is a connection that ends after some bytes.
type torn struct {
	net.Conn
	cuts  *atomic.Int64
	timer *time.Timer
	mu    sync.Mutex
	left  int // guarded by mu
}

// Read implements net.Conn.
func (t *torn) Read(p []byte) (int, error) {
	t.mu.Lock()
	left := t.left
	t.mu.Unlock()
	if left <= 0 {
		if t.timer.Stop() { // else it was counted
			t.cuts.Add(1)
		}
		_ = t.Close()
		return 0, net.ErrClosed
	}
	n, err := t.Conn.Read(p[:min(len(p), left)])
	t.mu.Lock()
	t.left -= n
	t.mu.Unlock()
	return n, err
}

// Close implements net.Conn.
func (t *torn) Close() error {
	t.timer.Stop()
	return t.Conn.Close()
}

// Attach returns a node that somebody else runs, so that clients can be made for it.
func Attach(t testing.TB, api, ops string) *Server {
	return &Server{t: t, URL: "http://" + api, OpsURL: "http://" + ops}
}
