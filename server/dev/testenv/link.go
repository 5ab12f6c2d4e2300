package testenv

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// linkChunks bounds what a connection's direction holds back, in chunks of at most 32 KiB.
const linkChunks = 256

// Link is a TCP proxy that a test can break: cut it, mute it, slow it down. Its methods are safe for concurrent use.
//
// Each direction of a connection has one goroutine that reads chunks and one that writes them when they are due. What was
// read is delivered in the end, even if who sent it has hung up meanwhile: as on a real network, what was given up may
// still arrive.
type Link struct {
	ln       net.Listener
	upstream string
	wg       sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	cut     bool
	mute    bool
	delay   time.Duration
	closed  bool
	conns   map[net.Conn]struct{}
}

// NewLink starts a proxy to a TCP address, which ends with the test.
func NewLink(tb testing.TB, upstream string) *Link {
	tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("testenv: %v", err)
	}
	l := &Link{ln: ln, upstream: upstream, conns: map[net.Conn]struct{}{}}
	l.changed = sync.NewCond(&l.mu)
	l.wg.Go(l.accept)
	tb.Cleanup(l.close)
	return l
}

// NewLinkTo is NewLink to the host of a URL; it returns the URL that leads through the link.
func NewLinkTo(tb testing.TB, to string) (*Link, string) {
	tb.Helper()
	u, err := url.Parse(to)
	if err != nil {
		tb.Fatal("testenv: not a URL") // it may hold a password
	}
	l := NewLink(tb, u.Host)
	u.Host = l.Addr()
	return l, u.String()
}

// Addr is where the link listens.
func (l *Link) Addr() string { return l.ln.Addr().String() }

// Heal ends all faults; what was held back goes on.
func (l *Link) Heal() { l.set(false, false, 0) }

// Cut ends all connections and refuses new ones.
func (l *Link) Cut() { l.set(true, false, 0) }

// Mute accepts everything and delivers nothing.
func (l *Link) Mute() { l.set(false, true, 0) }

// Slow delivers everything later by d in each direction.
func (l *Link) Slow(d time.Duration) { l.set(false, false, d) }

func (l *Link) set(cut, mute bool, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.mute, l.delay = cut, mute, delay
	if cut {
		l.hangUp()
	}
	l.changed.Broadcast()
}

// hangUp closes all connections; mu is held.
func (l *Link) hangUp() {
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *Link) close() {
	_ = l.ln.Close()
	l.mu.Lock()
	l.closed = true
	l.hangUp()
	l.changed.Broadcast()
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *Link) accept() {
	for {
		down, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.serve(down) })
	}
}

func (l *Link) serve(down net.Conn) {
	up, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.upstream)
	if err != nil {
		_ = down.Close()
		return
	}
	l.mu.Lock()
	if l.cut || l.closed {
		_, _ = down.Close(), up.Close()
	}
	l.conns[down], l.conns[up] = struct{}{}, struct{}{}
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { l.pump(up, down) })
	both.Go(func() { l.pump(down, up) })
	both.Wait()
	l.mu.Lock()
	delete(l.conns, down)
	delete(l.conns, up)
	l.mu.Unlock()
}

type chunk struct {
	at   time.Time
	data []byte
}

// pump carries what from sends to to, and then closes to.
func (l *Link) pump(to, from net.Conn) {
	chunks := make(chan chunk, linkChunks)
	l.wg.Go(func() {
		defer close(chunks)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				chunks <- chunk{time.Now(), buf[:n]}
			}
			if err != nil {
				return
			}
		}
	})
	for c := range chunks {
		l.due(c.at)
		if _, err := to.Write(c.data); err != nil && !errors.Is(err, io.ErrShortWrite) {
			break
		}
	}
	_ = to.Close()
	for range chunks { // the reader must not wait for room
	}
}

// due waits until what was read at that time may be delivered.
func (l *Link) due(at time.Time) {
	l.mu.Lock()
	for l.mute && !l.closed {
		l.changed.Wait()
	}
	wait := time.Until(at.Add(l.delay))
	if l.closed {
		wait = 0
	}
	l.mu.Unlock()
	time.Sleep(wait)
}
