package rpc

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
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
	// maxPenalties bounds how many addresses are remembered. Past it the one that was punished longest ago is forgotten.
	maxPenalties = 10_000
)

// penalties are the addresses that get no new connections for a while. Safe for concurrent use.
type penalties struct {
	mu   sync.Mutex
	list *simplelru.LRU[string, penalty]
}

type penalty struct {
	begun  time.Time
	length time.Duration
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
		p.list.Add(network, penalty{now, firstPenalty})
	case since > was.length:
		p.list.Add(network, penalty{now, min(2*was.length, maxPenalty)})
	}
}

// punished reports whether an address gets no connection.
func (p *penalties) punished(network string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, known := p.list.Peek(network)
	return known && now.Sub(was.begun) <= was.length
}

// abused closes the connection for what came over it and punishes its address. What was closed before is not punished: when a
// client goes away, all calls that it had under way end at once.
func (c *countedConn) abused() {
	if c.gone.Load() {
		return
	}
	_ = c.SetLinger(0) // what is still to be sent is not worth waiting for
	_ = c.Close()
	c.conns.penalties.punish(c.network, realNow())
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
