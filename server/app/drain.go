package app

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// drain is the first step of a shutdown: the node says that it is not ready and serves on for a while, so that whoever
// balances has noticed before the listener closes. Meanwhile every answer asks its client to use another connection
// (Connection: close over HTTP/1.1, which net/http makes a GOAWAY over HTTP/2), since a balancer moves connections and
// not calls: what a client keeps open would be cut in the middle of its next call.
type drain struct {
	next http.Handler
	on   atomic.Bool
}

// ServeHTTP implements http.Handler.
func (d *drain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.on.Load() {
		w.Header().Set("Connection", "close")
	}
	d.next.ServeHTTP(w, r)
}

// wait serves on for the grace time, less when ctx ends first.
func (d *drain) wait(ctx context.Context, clock clockwork.Clock, grace time.Duration) {
	d.on.Store(true)
	if grace <= 0 {
		return
	}
	timer := clock.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-timer.Chan():
	case <-ctx.Done():
	}
}
