package rpc

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-im/parley/server/auth"
)

// call is what is known of one HTTP request on its way through the layers. It is written by the request's own goroutine;
// the goroutines that a handler starts only read it.
type call struct {
	id      string
	started time.Time
	writer  http.ResponseWriter
	// detachable is the writer where the stream may outlive the layers that opened it, else nil.
	detachable *detachable
	obs        *observer
	procedure  string // empty until the gate, and for what is no call
	stream     bool
	principal  auth.Principal
	// code and reason tell how the call ended; empty until the gate or the interceptors answered it.
	code, reason string
}

type (
	callKey      struct{}
	principalKey struct{}
)

// callFrom returns the call of ctx. Outside of a call it returns one that logs nothing and counts nothing.
func callFrom(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{obs: silent}
}

// newCallID returns 16 hexadecimal digits that join the log lines of one call. It is no secret.
func newCallID() string {
	return strconv.FormatUint(rand.Uint64()|1<<63, 16) //nolint:gosec // not a secret
}

// PrincipalFrom returns who is calling: always set in handlers of rpcs for users, the zero value in those for the app's
// own server.
func PrincipalFrom(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey{}).(auth.Principal)
	return p
}

// WithPrincipal returns a context in which p is calling.
func WithPrincipal(ctx context.Context, p auth.Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// ResponseController controls the connection of the call in ctx: a stream's writer sets a deadline before each write. It
// is nil outside of a call.
func ResponseController(ctx context.Context) *http.ResponseController {
	c := callFrom(ctx)
	if c.writer == nil {
		return nil
	}
	return http.NewResponseController(c.writer)
}

// admitted reports whether the gate let the call in.
func (c *call) admitted() bool {
	return c.procedure != "" && c.code != "" && c.code != connect.CodeUnauthenticated.String()
}

// answered notes how the call ends, and logs what must be logged.
func (c *call) answered(ctx context.Context, v verdict, err error) {
	c.code, c.reason = v.code.String(), v.reason().String()
	if after := v.retryAfter(); after > 0 && c.writer != nil {
		c.writer.Header().Set("Retry-After", seconds(after))
	}
	c.obs.judged(ctx, c, v, err)
}
