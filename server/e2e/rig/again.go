package rig

import (
	"context"
	"time"

	"connectrpc.com/connect"
)

// late is how long a call took at least that a node gave up since a store did not answer: less than the shortest of the
// times that it gives PostgreSQL, and far more than a node in good order takes to refuse.
const late = 4 * time.Second

type onceKey struct{}

// Once makes calls with this context come back as they are, for tests that judge every answer.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// Again repeats a unary call, as SDKs do, that ended as UNAVAILABLE after the node had long waited: a machine that is busy with
// anything keeps a good node's stores from answering too. UNAVAILABLE without a wait stays what it is: a fault.
func Again() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			for first := time.Now(); ; {
				began := time.Now()
				res, err := next(ctx, req)
				if connect.CodeOf(err) != connect.CodeUnavailable || time.Since(began) < late || time.Since(first) > 2*patience ||
					ctx.Value(onceKey{}) != nil || ctx.Err() != nil {
					return res, err
				}
			}
		}
	})
}
