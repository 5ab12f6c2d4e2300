// Package balancer is a small TCP balancer for trying several nodes on one machine; for production there are better ones.
//
// It hands each connection to the node that is up and has the fewest, and copies bytes both ways until either end closes.
// It knows nothing of HTTP, so every protocol passes, TLS too. Nodes are asked whether they are ready every checkEvery,
// where operators ask; one that says no, or does not take a connection, gets no new ones until it says yes. Connections
// that a node has stay with it: a node that goes down ends its streams by itself, and when it dies its connections break,
// so that devices come back and are given another node.
//
// Serve owns all goroutines: one per node for its health, one that accepts, two per connection. Balancer.mu guards the
// nodes' states and is never held while anything waits.
package balancer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// MaxConns is how many connections are open at the same time. Further ones wait in the kernel's queue.
	MaxConns = 10_000
	// checkEvery is the time between two questions to a node, and checkWait how long it may take to answer.
	checkEvery = 100 * time.Millisecond
	checkWait  = time.Second
	// dialWait is how long a node may take to take a connection before the next one is tried.
	dialWait = time.Second
)

// Node is a place to hand connections to.
type Node struct {
	Addr  string // host:port of the API
	Ready string // URL that answers 200 while the node is ready
}

// State is what the balancer thinks of a node.
type State struct {
	Up    bool
	Conns int // open now
}

type node struct {
	Node
	State
}

// Balancer hands connections to nodes.
type Balancer struct {
	// CheckWait is how long a node may take to say that it is ready before it counts as down; 1 s. To be set before Serve.
	CheckWait time.Duration

	log    *slog.Logger
	client *http.Client
	slots  chan struct{}

	mu      sync.Mutex
	nodes   []*node
	changed chan struct{} // closed and replaced whenever a node goes up or down
}

// New returns a balancer whose nodes count as down until they have said otherwise. log may be nil.
func New(nodes []Node, log *slog.Logger) *Balancer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	b := &Balancer{CheckWait: checkWait, log: log, client: &http.Client{}, slots: make(chan struct{}, MaxConns), changed: make(chan struct{})}
	for _, n := range nodes {
		b.nodes = append(b.nodes, &node{Node: n})
	}
	return b
}

// States returns the nodes' states in the order that New got them in, and a channel that is closed when one goes up or
// down after that.
func (b *Balancer) States() ([]State, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]State, len(b.nodes))
	for i, n := range b.nodes {
		out[i] = n.State
	}
	return out, b.changed
}

// Serve takes connections from ln, which it closes, until ctx ends or ln fails. Then it cuts all connections and returns
// when everything has ended.
func (b *Balancer) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer b.client.CloseIdleConnections()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for _, n := range b.nodes {
		wg.Go(func() { b.watch(ctx, n) })
	}
	for {
		select {
		case b.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := ln.Accept()
		if err != nil {
			<-b.slots
			if ctx.Err() != nil {
				return nil
			}
			if temporary(err) { // no descriptors left, for instance
				if pause(ctx, checkEvery) {
					continue
				}
				return nil
			}
			return err
		}
		wg.Go(func() {
			defer func() { <-b.slots }()
			b.serve(ctx, conn)
		})
	}
}

func temporary(err error) bool { return !errors.Is(err, net.ErrClosed) }

// pause returns true after d, false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serve finds a node for a connection and copies until either end is done. A connection for which there is no node is
// closed, which clients take as a reason to try again.
func (b *Balancer) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close() //nolint:errcheck // nothing is left to be said
	tried := make(map[*node]bool, len(b.nodes))
	for {
		n := b.take(tried)
		if n == nil {
			return
		}
		tried[n] = true
		d := net.Dialer{Timeout: dialWait}
		up, err := d.DialContext(ctx, "tcp", n.Addr)
		if err != nil {
			b.setUp(n, false)
			b.release(n)
			continue
		}
		join(ctx, conn, up)
		b.release(n)
		return
	}
}

// take counts a connection on the node that is up, was not tried and has the fewest; nil if there is none.
func (b *Balancer) take(tried map[*node]bool) (best *node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.nodes {
		if n.Up && !tried[n] && (best == nil || n.Conns < best.Conns) {
			best = n
		}
	}
	if best != nil {
		best.Conns++
	}
	return best
}

func (b *Balancer) release(n *node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n.Conns--
}

func (b *Balancer) setUp(n *node, up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n.Up == up {
		return
	}
	n.Up = up
	close(b.changed)
	b.changed = make(chan struct{})
	b.log.Info("node changed", "addr", n.Addr, "up", up)
}

func (b *Balancer) watch(ctx context.Context, n *node) {
	for {
		up := b.ready(ctx, n)
		if ctx.Err() != nil {
			return
		}
		b.setUp(n, up)
		if !pause(ctx, checkEvery) {
			return
		}
	}
}

func (b *Balancer) ready(ctx context.Context, n *node) bool {
	ctx, cancel := context.WithTimeout(ctx, b.CheckWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.Ready, nil)
	if err != nil {
		return false
	}
	res, err := b.client.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4<<10))
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// join copies both ways. An end that is done writing is told on, so that half-closed connections work; an error on either
// side, or the end of ctx, cuts both.
func join(ctx context.Context, a, b net.Conn) {
	cut := func() { _ = a.Close(); _ = b.Close() }
	stop := context.AfterFunc(ctx, cut)
	defer stop()
	defer cut()
	var wg sync.WaitGroup
	pipe := func(to, from net.Conn) {
		if _, err := io.Copy(to, from); err != nil {
			cut()
			return
		}
		if c, ok := to.(interface{ CloseWrite() error }); !ok || c.CloseWrite() != nil {
			cut()
		}
	}
	wg.Go(func() { pipe(a, b) })
	wg.Go(func() { pipe(b, a) })
	wg.Wait()
}
