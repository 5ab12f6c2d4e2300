package statecache_test

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// throughProxy returns an address like url that leads there through a proxy. before is called with what a client sends,
// and may take its time: the rest of that connection waits with it.
func throughProxy(t testing.TB, raw string, before func(sent []byte)) string {
	u, err := url.Parse(raw)
	require.NoError(t, err)
	network, address := "tcp", u.Host
	if u.Scheme == "unix" {
		network, address = "unix", u.Path
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	keep := func(c net.Conn) {
		mu.Lock()
		open = append(open, c)
		mu.Unlock()
	}
	pass := func(from, to net.Conn, before func([]byte)) {
		defer func() { _ = from.Close(); _ = to.Close() }()
		buf := make([]byte, 256<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				before(buf[:n])
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	all.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			var d net.Dialer
			server, err := d.DialContext(context.Background(), network, address)
			if err != nil {
				_ = client.Close()
				continue
			}
			keep(client)
			keep(server)
			all.Go(func() { pass(client, server, before) })
			all.Go(func() { pass(server, client, func([]byte) {}) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return (&url.URL{Scheme: "redis", User: u.User, Host: ln.Addr().String()}).String()
}
