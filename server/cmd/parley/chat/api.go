package chat

import (
	"context"
	"net/http"
	"sync"

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
	token    *credential
}

func newAPI(server string, token *credential) *api {
	opt := connect.WithInterceptors(token)
	return &api{
		messages: parleyv1connect.NewMessageServiceClient(http.DefaultClient, server, opt),
		sessions: parleyv1connect.NewSessionServiceClient(http.DefaultClient, server, opt),
		states:   parleyv1connect.NewStateServiceClient(http.DefaultClient, server, opt),
		sync:     parleyv1connect.NewSyncServiceClient(http.DefaultClient, server, opt),
		token:    token,
	}
}

// ack confirms that the device has everything up to the given seqs, by session.
func (a *api) ack(ctx context.Context, epoch string, at map[string]int64) error {
	req := &parleyv1.AckRequest{Epoch: epoch}
	for id, seq := range at {
		req.Acks = append(req.Acks, &parleyv1.Cursor{SessionId: id, Seq: seq})
	}
	_, err := a.sync.Ack(ctx, req)
	return err
}

// markRead marks everything up to the given seqs as read, by session.
func (a *api) markRead(ctx context.Context, at map[string]int64) error {
	for id, seq := range at {
		if _, err := a.states.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: seq}); err != nil {
			return err
		}
	}
	return nil
}

// recovered prepares for another try after a problem that may pass: it gets a new token if the old one has expired, and
// waits. An error says why there is no point in another try: ctx has ended, or no token can be had.
func (a *api) recovered(ctx context.Context, p problem, b *backoff) error {
	if p.reason == parleyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED {
		if err := a.token.refresh(ctx); err != nil && !problemOf(err).again {
			return err
		}
	}
	if !b.wait(ctx, p.after) {
		return ctx.Err()
	}
	return nil
}

// credential puts the token on every call and gets a new one when it has expired. Safe for concurrent use.
type credential struct {
	get func(context.Context) (string, error)

	mu    sync.Mutex
	token string
}

func (c *credential) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	token, err := c.get(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
	return nil
}

func (c *credential) has() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token != ""
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
