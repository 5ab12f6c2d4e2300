package storage

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// dialer opens a connection, as in net.Dialer.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// idleSlack is what a connection gets on top of the time after which go-redis would not use it any more, so that none is
// closed under who has just taken it: by then go-redis, whose clock is coarse, would have dropped it itself.
const idleSlack = time.Second

// givingBack returns a dialer whose connections close themselves when nobody used them for idle, within twice that and a
// moment. go-redis looks at the age of a connection only when it takes it, and takes the one last used: what a burst
// opened would stay open for good.
func (dial dialer) givingBack(idle time.Duration) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &idleConn{Conn: conn, period: idle + idleSlack}
		c.watch()
		if raw, ok := conn.(syscall.Conn); ok { // by which go-redis sees that the other end is gone; TLS has none
			return &rawIdleConn{c, raw}, nil
		}
		return c, nil
	}
}

// idleConn is a connection that closes itself after a whole period without use. A read that waits is use: the connections
// of subscriptions do little else. Safe for concurrent use, as any net.Conn.
type idleConn struct {
	net.Conn
	period  time.Duration
	used    atomic.Bool  // in this period
	reading atomic.Int32 // reads that wait

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	closed bool
}

// rawIdleConn is an idleConn with the system's connection under it.
type rawIdleConn struct {
	*idleConn
	syscall.Conn
}

func (c *idleConn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(c.period, c.check) //nolint:forbidigo // as go-redis, which has a clock of its own
}

// check runs at the end of each period.
func (c *idleConn) check() {
	if !c.used.Swap(false) && c.reading.Load() == 0 {
		_ = c.Close()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.timer.Reset(c.period)
	}
}

// Read implements net.Conn.
func (c *idleConn) Read(b []byte) (int, error) {
	c.reading.Add(1)
	n, err := c.Conn.Read(b)
	c.used.Store(true)
	c.reading.Add(-1)
	return n, err
}

// Write implements net.Conn.
func (c *idleConn) Write(b []byte) (int, error) {
	c.used.Store(true)
	return c.Conn.Write(b)
}

// SetDeadline implements net.Conn. go-redis calls it when it takes a connection, so it is use.
func (c *idleConn) SetDeadline(at time.Time) error {
	c.used.Store(true)
	return c.Conn.SetDeadline(at)
}

// Close implements net.Conn. Closing again is no error.
func (c *idleConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.timer.Stop()
	return c.Conn.Close()
}
