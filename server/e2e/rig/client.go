package rig

import (
	"context"
	"net/http"
	"sync/atomic"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

// Client speaks for one device of one user.
type Client struct {
	s            *Server
	User, Device string
	Token        string
	HTTP         *http.Client
	Relations    parleyv1connect.RelationServiceClient
	Devices      parleyv1connect.DeviceServiceClient
	Sessions     parleyv1connect.SessionServiceClient
	Messages     parleyv1connect.MessageServiceClient
	States       parleyv1connect.StateServiceClient
	Sync         parleyv1connect.SyncServiceClient
	ways         *ways // nil: one address
	tearing      atomic.Bool
	cuts         atomic.Int64
}

// Client makes a client for a device, and user and device if they are new. opts choose the protocol, such as
// connect.WithProtoJSON() or connect.WithGRPC().
func (s *Server) Client(user, device string, opts ...connect.ClientOption) *Client {
	s.t.Helper()
	return s.ClientWith(user, device, s.Token(user, device), opts...)
}

// ClientWith makes a client with a token that is there.
func (s *Server) ClientWith(user, device, token string, opts ...connect.ClientOption) *Client {
	c := &Client{s: s, User: user, Device: device, Token: token}
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{MaxIdleConnsPerHost: 64, Protocols: &p}
	for _, o := range opts {
		if o == H2 {
			p.SetHTTP1(false)
		}
	}
	c.HTTP = &http.Client{Transport: tr}
	s.t.Cleanup(tr.CloseIdleConnections)
	all := append([]connect.ClientOption{connect.WithInterceptors(bearer(token), Again())}, opts...)
	c.Relations = parleyv1connect.NewRelationServiceClient(c.HTTP, s.URL, all...)
	c.Devices = parleyv1connect.NewDeviceServiceClient(c.HTTP, s.URL, all...)
	c.Sessions = parleyv1connect.NewSessionServiceClient(c.HTTP, s.URL, all...)
	c.Messages = parleyv1connect.NewMessageServiceClient(c.HTTP, s.URL, all...)
	c.States = parleyv1connect.NewStateServiceClient(c.HTTP, s.URL, all...)
	c.Sync = parleyv1connect.NewSyncServiceClient(c.HTTP, s.URL, all...)
	return c
}

// H2 makes a client speak HTTP/2 without TLS; gRPC needs it.
var H2 = connect.WithClientOptions()

// To is a message to a session (a UUID) or a user.
func To(target, body string) *parleyv1.SendMessageRequest {
	req := &parleyv1.SendMessageRequest{MessageId: uuid.NewString(),
		Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}}}
	if uuid.Validate(target) == nil {
		req.Target = &parleyv1.SendMessageRequest_SessionId{SessionId: target}
	} else {
		req.Target = &parleyv1.SendMessageRequest_PeerUserId{PeerUserId: target}
	}
	return req
}

// Send sends a text and returns the receipt; the test fails if it is refused.
func (c *Client) Send(ctx context.Context, target, body string) *parleyv1.SendMessageResponse {
	c.s.t.Helper()
	res, err := c.Messages.SendMessage(ctx, To(target, body))
	require.NoError(c.s.t, err)
	return res
}

// Group makes a group and returns its id.
func (c *Client) Group(ctx context.Context, members ...string) string {
	c.s.t.Helper()
	res, err := c.Sessions.CreateSession(ctx, &parleyv1.CreateSessionRequest{Group: &parleyv1.Group{Title: "group"}, MemberIds: members})
	require.NoError(c.s.t, err)
	return res.GetSession().GetSessionId()
}

// bearer puts a token on every call, streams included.
type bearer string

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, req)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// Admin is AdminService as this device would call it: with its own token.
func (c *Client) Admin() parleyv1connect.AdminServiceClient {
	return parleyv1connect.NewAdminServiceClient(c.HTTP, c.s.URL, connect.WithInterceptors(bearer(c.Token), Again()))
}

// Bearer puts a token on all calls of a client.
func Bearer(token string) connect.ClientOption {
	return connect.WithInterceptors(bearer(token), Again())
}
