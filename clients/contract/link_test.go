package contract

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// link is a TCP link between one device and the server.
type link struct {
	target string
	ln     net.Listener
	mu     sync.Mutex
	mode   string // open, closed or muted
	conns  map[net.Conn]net.Conn
}

// newLink makes an open link; it ends with the test.
func newLink(t testing.TB, target string) *link {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &link{target: target, ln: ln, mode: "open", conns: map[net.Conn]net.Conn{}}
	go l.accept()
	t.Cleanup(func() {
		_ = ln.Close()
		_ = l.set("closed")
	})
	return l
}

func (l *link) url() string { return "http://" + l.ln.Addr().String() }

// set changes the link; it reports whether there is such a way. "cut" breaks all connections and lets new ones through,
// "closed" refuses new ones too, "muted" keeps them and lets nothing through, "open" lets everything through (what was
// muted stays dead).
func (l *link) set(way string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch way {
	case "cut":
		l.cut()
	case "closed", "muted", "open":
		if way == "closed" || l.mode == "muted" {
			l.cut()
		}
		l.mode = way
	default:
		return false
	}
	return true
}

func (l *link) cut() {
	for near, far := range l.conns {
		_ = near.Close()
		_ = far.Close()
	}
}

func (l *link) is(mode string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mode == mode
}

func (l *link) accept() {
	for {
		near, err := l.ln.Accept()
		if err != nil {
			return
		}
		far, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", l.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		if l.mode == "closed" {
			l.mu.Unlock()
			_ = near.Close()
			_ = far.Close()
			continue
		}
		l.conns[near] = far
		l.mu.Unlock()
		go l.pump(near, far, near)
		go l.pump(far, near, near)
	}
}

func (l *link) pump(from, to, key net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !l.is("muted") {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
	l.mu.Lock()
	delete(l.conns, key)
	l.mu.Unlock()
}
