package rpc

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Default bounds of connections.
const (
	// DefaultMaxConns is how many connections a node holds. Each takes a descriptor and 10 to 50 kB.
	DefaultMaxConns = 200_000
	// DefaultMaxConnsIP is how many of them may come from one address (IPv6: one /64). Many devices share one at an office
	// or behind a carrier's gateway.
	DefaultMaxConnsIP = 10_000
)

// strangerIdle is how long a connection may be idle that no admitted call has come over.
const strangerIdle = 10 * time.Second

// Conns bounds the connections of a node, in all and per address. What is over a bound is closed as soon as it is accepted,
// which costs nobody else anything. A connection counts until it is closed, whoever has it: streams that were taken from
// net/http count, too. Those of proxies count only in all. Safe for concurrent use.
type Conns struct {
	most, mostIP int64 // 0: no bound
	proxies      Proxies
	idle         time.Duration

	mu    sync.Mutex
	all   int64
	perIP map[string]int64 // what has none is left out

	penalties *penalties
	refused   *prometheus.CounterVec
}

// NewConns returns bounds; 0 is none. reg may be nil.
func NewConns(most, mostIP int64, proxies Proxies, reg prometheus.Registerer) *Conns {
	c := &Conns{most: most, mostIP: mostIP, proxies: proxies, idle: strangerIdle, perIP: make(map[string]int64),
		penalties: newPenalties(), refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_connections_refused_total",
			Help: "Connections closed as they came because there were too many, in all or of an address, or after abuse."}, []string{"limit"})}
	if reg != nil {
		reg.MustRegister(c.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_connections",
			Help: "Connections to the API, streams among them."}, func() float64 { return float64(c.Open()) }))
	}
	return c
}

// Open is the number of connections.
func (c *Conns) Open() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}

// Listen returns a listener that keeps to the bounds.
func (c *Conns) Listen(ln net.Listener) net.Listener { return &boundedListener{ln, c} }

type boundedListener struct {
	net.Listener
	conns *Conns
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if counted := l.conns.enter(conn); counted != nil {
			return counted, nil
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // nothing was sent; the kernel need not remember it
		}
		_ = conn.Close()
	}
}

// enter counts a connection, or returns nil when there are too many.
func (c *Conns) enter(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn // of a test's own listener
	}
	network := c.network(conn.RemoteAddr())
	if network != "" && c.penalties.punished(network, realNow()) {
		c.refused.WithLabelValues("abuse").Inc()
		return nil
	}
	if bound := c.count(network); bound != "" {
		c.refused.WithLabelValues(bound).Inc()
		return nil
	}
	counted := &countedConn{TCPConn: tcp, conns: c, network: network}
	if network != "" {
		counted.refused.Store(c.penalties.inherit(network, realNow()))
	}
	return counted
}

// count counts a connection, or returns the bound that it is past.
func (c *Conns) count(network string) (bound string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.most > 0 && c.all >= c.most:
		return "all"
	case network != "" && c.mostIP > 0 && c.perIP[network] >= c.mostIP:
		return "ip"
	}
	c.all++
	if network != "" {
		c.perIP[network]++
	}
	return ""
}

// network is what a connection counts as; empty for proxies.
func (c *Conns) network(addr net.Addr) string {
	a, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return ""
	}
	peer := a.Addr().Unmap().WithZone("")
	if c.proxies.contain(peer) {
		return ""
	}
	return networkOf(peer)
}

func (c *Conns) leave(network string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if network == "" {
		return
	}
	if c.perIP[network]--; c.perIP[network] == 0 {
		delete(c.perIP, network)
	}
}

// countedConn is a connection that is counted until it is closed. It stays a TCP connection to those who look, such as the
// writers of streams.
type countedConn struct {
	*net.TCPConn
	conns   *Conns
	network string
	once    sync.Once
	// known: an admitted call has come over it.
	known atomic.Bool
	// refused is by how many the requests that were refused because their address makes too many exceed those that passed, on
	// this connection and, before it, on some that the address closed.
	refused atomic.Int32
	gone    atomic.Bool // it is closed

	mu    sync.Mutex
	timer *time.Timer // closes it; nil while it is in use or known
	// resets are the calls that were given up on it, less those that were forgotten by resetAt, the time of the last one.
	resets  float64
	resetAt time.Time
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.gone.Store(true)
		if refused := c.refused.Load(); refused > 0 {
			c.conns.penalties.leave(c.network, refused, realNow())
		}
		c.conns.leave(c.network)
		c.use()
	})
	return c.TCPConn.Close()
}

// rest begins an idle time.
func (c *countedConn) rest() {
	if c.known.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil {
		c.timer = time.AfterFunc(c.conns.idle, func() { _ = c.Close() }) //nolint:forbidigo // the kernel's time, as deadlines
	}
}

// use ends an idle time.
func (c *countedConn) use() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

type connKey struct{}

// Watch makes a server close connections that idle although nobody was admitted over them.
func (c *Conns) Watch(s *http.Server) {
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, countedOf(conn))
	}
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		counted := countedOf(conn)
		if counted == nil {
			return
		}
		switch state {
		case http.StateNew, http.StateIdle:
			counted.rest()
		case http.StateActive, http.StateHijacked, http.StateClosed:
			counted.use()
		}
	}
}

// countedOf finds the connection below TLS.
func countedOf(conn net.Conn) *countedConn {
	if below, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = below.NetConn()
	}
	counted, _ := conn.(*countedConn)
	return counted
}

// admitted notes that the connection of a call is of somebody known here.
func admitted(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(*countedConn); ok && c != nil {
		c.known.Store(true)
	}
}
