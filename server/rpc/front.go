package rpc

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// RequestIDHeader is in every answer; quoting it finds the server's log lines of the call.
const RequestIDHeader = "X-Request-Id"

// hsts has browsers come back by TLS only, for a year. It is said only where the connection has TLS.
const hsts = "max-age=31536000"

// front is the outermost layer: it makes the call, bounds its body and ends it.
type front struct {
	next    http.Handler
	obs     *observer
	timeout time.Duration // for the body to arrive
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch d := newDetachable(w, r); {
	case d != nil:
		f.serve(d, d, r)
	case holdable(r):
		f.hold(w, r)
	default:
		f.serve(w, nil, r)
	}
}

// serve serves a request whose answer goes to w; d is w where it is detachable, else nil.
func (f *front) serve(w http.ResponseWriter, d *detachable, r *http.Request) {
	began := realNow()
	if gaveUp(r.Context(), r, began) {
		return
	}
	c := &call{id: newCallID(), started: began, obs: f.obs, writer: w, detachable: d}
	header := w.Header()
	header.Set(RequestIDHeader, c.id)
	header.Set("X-Content-Type-Options", "nosniff")
	if r.TLS != nil {
		header.Set("Strict-Transport-Security", hsts)
	}
	ctx := context.WithValue(r.Context(), callKey{}, c)
	r = r.WithContext(ctx)
	// Reflection, where it is on, is a conversation and not one request.
	if r.Body != nil && (r.Body != http.NoBody || enveloped(r)) && !strings.HasPrefix(r.URL.Path, "/grpc.reflection.") {
		r.Body = newBody(r, c, f.timeout)
	}
	defer func() {
		if p := recover(); p != nil {
			c.code = "internal"
			if p != http.ErrAbortHandler { //nolint:errorlint // net/http compares so, too
				f.obs.fault(ctx, c, panicked(p))
			}
			f.obs.end(ctx, c)
			// Whether an answer has begun is not known here, so the connection is cut instead of answered.
			panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http is asked to do that
		}
		if c.admitted() {
			admitted(ctx)
		}
		if !c.detachable.isGone() {
			f.obs.end(ctx, c)
		}
	}()
	if headerBytes(r.Header) > MaxHeaderBytes {
		http.Error(w, "the headers of a request may have 16 KiB", http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	f.next.ServeHTTP(w, r)
	gaveUp(ctx, r, began)
}

// headerBytes is the size of headers as HTTP/2 counts it (RFC 9113, section 6.5.2), without host and path: each field's name
// and value, and 32 bytes. So the bound is the same whatever protocol they came by.
func headerBytes(h http.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 32
		}
	}
	return n
}

// panicked makes an error of what recover returned, with the stack.
func panicked(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }
