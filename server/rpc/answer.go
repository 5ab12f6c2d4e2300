package rpc

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
)

// answer is the interceptor around all that may fail: it recovers from panics, gives unary calls a deadline and turns
// errors into what the client is told.
type answer struct {
	deadlines deadlines // of unary calls; a shorter one of the client's own counts
}

// WrapUnary implements connect.Interceptor.
func (a *answer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (_ connect.AnyResponse, err error) {
		ctx, cancel := context.WithTimeout(ctx, a.deadlines[req.Spec().Procedure])
		defer cancel()
		if err := notRefused(ctx); err != nil {
			return nil, err
		}
		defer func() { err = a.settle(ctx, err, recover()) }()
		return next(ctx, req)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (a *answer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		defer func() { err = a.settle(ctx, err, recover()) }()
		return next(ctx, conn)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (a *answer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// settle turns the outcome of a handler into what connect answers.
func (a *answer) settle(ctx context.Context, err error, p any) error {
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares so, too
		panic(p) //nolint:forbidigo // asks net/http to cut the connection
	}
	if p != nil {
		err = panicked(p)
	}
	if err == nil {
		callFrom(ctx).code = "ok"
		return nil
	}
	return asWire(ctx, err)
}
