package rpc

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxRefused is by how many the requests of a connection that are refused because their address makes too many may exceed
	// those that pass, before it is closed. A refusal costs the server, too: net/http reads the body that nobody looks at. In a
	// row they need not be, for an address's bucket fills while it is refused, and lets one through now and then. Who waits as
	// told is not refused more often than served.
	maxRefused = 100
	// maxResets is how many calls a client may begin and give up on an HTTP/2 connection at once, and resetsForgiven how many
	// of them are forgotten each second. A call that was given up costs the server about as much as an answered one, and its
	// client nothing, who need not wait for an answer nor heed how many may be open (CVE-2023-44487).
	maxResets      = 200
	resetsForgiven = 20
	// youngCall is up to what age a call that ends without being waited for counts: streams end so when they are done with.
	youngCall = time.Second

	// An address on whose connection such a thing happened gets no new ones for firstPenalty, twice as long each time that it
	// happens again within penaltyMemory, at most maxPenalty: what it does with the connections that it opens instead costs
	// an accept each. Short, for others may be behind the address; their connections stay.
	firstPenalty  = time.Second
	maxPenalty    = 16 * time.Second
	penaltyMemory = time.Minute
	// maxPenalties bounds how many addresses are remembered. Past it the one that was noted longest ago is forgotten.
	maxPenalties = 10_000
)

// penalties are the addresses that get no new connections for a while, and those that closed connections on which more was
// refused than passed. Safe for concurrent use.
type penalties struct {
	mu   sync.Mutex
	list *simplelru.LRU[string, penalty]
}

type penalty struct {
	begun  time.Time // zero: none yet
	length time.Duration
	// refused is what connections that the address closed had in countedConn.refused, the last of them at left: who comes
	// by a new one each time does not begin anew.
	refused int32
	left    time.Time
}

func newPenalties() *penalties {
	list, err := simplelru.NewLRU[string, penalty](maxPenalties, nil)
	if err != nil {
		panic(err) //nolint:forbidigo // only a size below 1 fails
	}
	return &penalties{list: list}
}

// punish begins a penalty. One that is under way goes on as it is: what was open beside the connection that brought it may
// come to the same.
func (p *penalties) punish(network string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, known := p.list.Peek(network)
	since := now.Sub(was.begun)
	switch {
	case !known || since > was.length+penaltyMemory:
		p.list.Add(network, penalty{begun: now, length: firstPenalty})
	case since > was.length:
		p.list.Add(network, penalty{begun: now, length: min(2*was.length, maxPenalty)})
	}
}

// punished reports whether an address gets no connection.
func (p *penalties) punished(network string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, known := p.list.Peek(network)
	return known && now.Sub(was.begun) <= was.length
}

// leave remembers what countedConn.refused was of a connection that was closed.
func (p *penalties) leave(network string, refused int32, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, _ := p.list.Peek(network)
	if now.Sub(was.left) > penaltyMemory {
		was.refused = 0
	}
	was.refused, was.left = min(was.refused+refused, maxRefused-1), now
	p.list.Add(network, was)
}

// inherit takes what leave remembered within penaltyMemory: one new connection of the address goes on from it.
func (p *penalties) inherit(network string, now time.Time) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, _ := p.list.Peek(network)
	refused := was.refused
	if refused == 0 {
		return 0
	}
	was.refused = 0
	p.list.Add(network, was)
	if now.Sub(was.left) > penaltyMemory {
		return 0
	}
	return refused
}

// passed notes whether a request of the connection of ctx passed the bound of its address.
func passed(ctx context.Context, ok bool) {
	c, _ := ctx.Value(connKey{}).(*countedConn)
	switch {
	case c == nil || c.network == "": // a proxy's speaks for many
	case ok:
		c.forgive()
	case c.refused.Add(1) >= maxRefused:
		c.abused()
	}
}

// forgive takes one from what was refused.
func (c *countedConn) forgive() {
	for n := c.refused.Load(); n > 0; n = c.refused.Load() {
		if c.refused.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// abused closes the connection for what came over it and punishes its address. What was closed before is not punished: when a
// client goes away, all calls that it had under way end at once.
func (c *countedConn) abused() {
	if c.gone.Load() {
		return
	}
	c.conns.penalties.punish(c.network, realNow()) // before its client can know and come again
	c.refused.Store(0)                             // the penalty is for it
	_ = c.SetLinger(0)                             // what is still to be sent is not worth waiting for
	_ = c.Close()
}

// gaveUp notes that a client ended an HTTP/2 call itself, soon after it began. It reports so of ctx, too: then there is
// nothing to do for the call.
func gaveUp(ctx context.Context, r *http.Request, began time.Time) bool {
	if r.ProtoMajor < 2 || ctx.Err() == nil {
		return false
	}
	c, _ := ctx.Value(connKey{}).(*countedConn)
	if c == nil || c.network == "" { // a proxy's speaks for many
		return true
	}
	now := realNow()
	if now.Sub(began) > youngCall {
		return true
	}
	c.mu.Lock()
	c.resets = max(0, c.resets-now.Sub(c.resetAt).Seconds()*resetsForgiven) + 1
	c.resetAt = now
	over := c.resets > maxResets
	c.mu.Unlock()
	if over {
		c.abused()
	}
	return true
}
