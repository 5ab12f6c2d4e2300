package chat

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

// api is the server as this device sees it.
type api struct {
	messages parleyv1connect.MessageServiceClient
	sessions parleyv1connect.SessionServiceClient
	states   parleyv1connect.StateServiceClient
	sync     parleyv1connect.SyncServiceClient
	devices  parleyv1connect.DeviceServiceClient
	token    *credential
}

func newAPI(server string, token *credential) *api {
	opt := connect.WithInterceptors(token)
	return &api{
		messages: parleyv1connect.NewMessageServiceClient(http.DefaultClient, server, opt),
		sessions: parleyv1connect.NewSessionServiceClient(http.DefaultClient, server, opt),
		states:   parleyv1connect.NewStateServiceClient(http.DefaultClient, server, opt),
		sync:     parleyv1connect.NewSyncServiceClient(http.DefaultClient, server, opt),
		devices:  parleyv1connect.NewDeviceServiceClient(http.DefaultClient, server, opt),
		token:    token,
	}
}

// credential puts the token on every call and gets a new one when it has expired. Safe for concurrent use.
type credential struct {
	get func(context.Context) (string, error)

	mu    sync.Mutex
	token string
}

func (c *credential) refresh(ctx context.Context) error {
	token, err := c.get(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
	return nil
}

func (c *credential) set(h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.Set("Authorization", "Bearer "+c.token)
}

// WrapUnary implements connect.Interceptor.
func (c *credential) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		c.set(req.Header())
		return next(ctx, req)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (c *credential) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		c.set(conn.RequestHeader())
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (c *credential) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// problem is what an error of the server means for a client.
type problem struct {
	reason parleyv1.ErrorReason // UNSPECIFIED when the server could not be asked
	text   string
	// again is true when repeating the call may help, after at least the given time.
	again bool
	after time.Duration
}

func problemOf(err error) problem {
	p := problem{text: err.Error()}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		p.again = errors.Is(err, errSilent)
		return p
	}
	p.text = ce.Message()
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*parleyv1.ErrorDetail); ok {
				p.reason = detail.GetReason()
				if ms, err := strconv.Atoi(detail.GetMetadata()["retry_after_ms"]); err == nil {
					p.after = time.Duration(ms) * time.Millisecond
				}
			}
		}
	}
	switch p.reason {
	case parleyv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		// Not from Parley itself: a proxy, or no server at all.
		p.again = ce.Code() != connect.CodeUnauthenticated && ce.Code() != connect.CodePermissionDenied
	case parleyv1.ErrorReason_ERROR_REASON_RATE_LIMITED, parleyv1.ErrorReason_ERROR_REASON_OVERLOADED,
		parleyv1.ErrorReason_ERROR_REASON_UNAVAILABLE, parleyv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
		parleyv1.ErrorReason_ERROR_REASON_INTERNAL, parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED,
		parleyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED:
		p.again = true
	default:
	}
	return p
}

// Bounds of the pause between two tries.
const (
	firstPause = 200 * time.Millisecond
	maxPause   = 10 * time.Second
)

// backoff waits ever longer between tries, each time a random part of the time ("full jitter"), so that many clients do
// not come back at once.
type backoff struct{ ceiling time.Duration }

// wait returns false when ctx ended first.
func (b *backoff) wait(ctx context.Context, atLeast time.Duration) bool {
	b.ceiling = min(max(2*b.ceiling, firstPause), maxPause)
	pause := atLeast + time.Duration(rand.Int64N(int64(b.ceiling))) //nolint:gosec // only spreads load
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *backoff) reset() { b.ceiling = 0 }

// recovered prepares for another try: it gets a new token if the old one has expired, and waits. It returns false when ctx
// ended, or when no token can be had.
func (a *api) recovered(ctx context.Context, p problem, b *backoff) bool {
	if p.reason == parleyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED {
		if err := a.token.refresh(ctx); err != nil && !problemOf(err).again {
			return false
		}
	}
	return b.wait(ctx, p.after)
}
