package rpc

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
)

const (
	aliceToken = "alice-token"
	adminKey   = "the admin key of these tests, 32+ bytes"
)

// fakes stand in for everything behind the transport; tests set the functions that they need.
type fakes struct {
	parleyv1connect.UnimplementedRelationServiceHandler
	parleyv1connect.UnimplementedDeviceServiceHandler
	parleyv1connect.UnimplementedSessionServiceHandler
	parleyv1connect.UnimplementedStateServiceHandler
	parleyv1connect.UnimplementedPresenceServiceHandler
	parleyv1connect.UnimplementedAdminServiceHandler

	send      func(context.Context, *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error)
	register  func(context.Context, *parleyv1.RegisterDeviceRequest) (*parleyv1.RegisterDeviceResponse, error)
	stats     func(context.Context) (*parleyv1.GetStatsResponse, error)
	unread    func(context.Context, *parleyv1.GetUnreadRequest) (*parleyv1.GetUnreadResponse, error)
	subscribe func(context.Context, *parleyv1.SubscribeRequest, *connect.ServerStream[parleyv1.SubscribeResponse]) error
	serve     func(context.Context, auth.Principal, *parleyv1.SubscribeRequest, stream.Sink) error
	gate      func(userID, deviceID string) error
}

type fakeMessages struct {
	parleyv1connect.UnimplementedMessageServiceHandler
	f *fakes
}

func (m fakeMessages) SendMessage(ctx context.Context, req *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
	return m.f.send(ctx, req)
}

type fakeSync struct {
	parleyv1connect.UnimplementedSyncServiceHandler
	f *fakes
}

func (s fakeSync) Subscribe(ctx context.Context, req *parleyv1.SubscribeRequest, out *connect.ServerStream[parleyv1.SubscribeResponse]) error {
	return s.f.subscribe(ctx, req, out)
}

func (f *fakes) RegisterDevice(ctx context.Context, req *parleyv1.RegisterDeviceRequest) (*parleyv1.RegisterDeviceResponse, error) {
	return f.register(ctx, req)
}

func (f *fakes) GetStats(ctx context.Context, _ *parleyv1.GetStatsRequest) (*parleyv1.GetStatsResponse, error) {
	return f.stats(ctx)
}

func (f *fakes) GetUnread(ctx context.Context, req *parleyv1.GetUnreadRequest) (*parleyv1.GetUnreadResponse, error) {
	return f.unread(ctx, req)
}

func (f *fakes) Serve(ctx context.Context, p auth.Principal, req *parleyv1.SubscribeRequest, sink stream.Sink) error {
	return f.serve(ctx, p, req, sink)
}

func (f *fakes) Check(_ context.Context, userID, deviceID string) error {
	if f.gate == nil {
		return nil
	}
	return f.gate(userID, deviceID)
}

type fakeVerifier struct{}

func (fakeVerifier) Verify(_ context.Context, raw string) (auth.Principal, error) {
	switch raw {
	case aliceToken:
		return auth.Principal{UserID: "alice", DeviceID: "d1"}, nil
	case "":
		return auth.Principal{}, refusal.New(refusal.TokenMissing, "The call needs a bearer token.")
	default:
		return auth.Principal{}, refusal.New(refusal.TokenInvalid, "No.")
	}
}

func (f *fakes) config(t testing.TB) Config {
	t.Helper()
	key, err := auth.NewAPIKey(strings.ReplaceAll(adminKey, " ", "-"))
	require.NoError(t, err)
	return Config{
		Services: Services{Relation: f, Device: f, Session: f, Message: fakeMessages{f: f}, State: f, Sync: fakeSync{f: f},
			Presence: f, Admin: f},
		Subscriber: f, Verifier: fakeVerifier{}, APIKey: key, Gate: f, Health: grpchealth.NewStaticChecker(),
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), UnaryTimeout: time.Minute,
	}
}

// serve starts a server that speaks HTTP/1.1 and h2c.
func serve(t *testing.T, cfg Config) string {
	t.Helper()
	h, err := New(cfg)
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = NewHTTPServer(t.Context(), h, nil, cfg.Log)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// h2c is a client that speaks HTTP/2 without TLS.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &p}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// as adds a bearer token to every call.
func as(token string) connect.ClientOption {
	return connect.WithInterceptors(bearerInterceptor(token))
}

type bearerInterceptor string

func (b bearerInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, req)
	}
}

func (b bearerInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b bearerInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// protocols runs fn once for each way to call.
func protocols(t *testing.T, fn func(t *testing.T, client connect.HTTPClient, opts ...connect.ClientOption)) {
	t.Helper()
	t.Run("connect", func(t *testing.T) { fn(t, http.DefaultClient) })
	t.Run("connect json", func(t *testing.T) { fn(t, http.DefaultClient, connect.WithProtoJSON()) })
	t.Run("connect gzip", func(t *testing.T) { fn(t, http.DefaultClient, connect.WithSendGzip()) })
	t.Run("grpc", func(t *testing.T) { fn(t, h2c(t), connect.WithGRPC()) })
	t.Run("grpc gzip", func(t *testing.T) { fn(t, h2c(t), connect.WithGRPC(), connect.WithSendGzip()) })
	t.Run("grpc-web", func(t *testing.T) { fn(t, http.DefaultClient, connect.WithGRPCWeb()) })
}

// requireError checks code and reason and returns the detail.
func requireError(t *testing.T, err error, code connect.Code, reason parleyv1.ErrorReason) *parleyv1.ErrorDetail {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, connect.CodeOf(err), "%v", err)
	detail := detailOf(err)
	require.NotNil(t, detail, "no detail: %v", err)
	require.Equal(t, reason, detail.GetReason(), "%v", err)
	return detail
}

func detailOf(err error) *parleyv1.ErrorDetail {
	ce, ok := err.(*connect.Error) //nolint:errorlint // as clients get it
	if !ok {
		return nil
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*parleyv1.ErrorDetail); ok {
				return detail
			}
		}
	}
	return nil
}

func textTo(peer, body string) *parleyv1.SendMessageRequest {
	return &parleyv1.SendMessageRequest{
		Target:    &parleyv1.SendMessageRequest_PeerUserId{PeerUserId: peer},
		MessageId: "01890a5d-ac96-774b-bcce-b302099a8057",
		Content:   &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}},
	}
}

// post sends raw bytes.
func post(t *testing.T, url, contentType, body string, header ...string) (int, string) {
	t.Helper()
	return do(t, http.MethodPost, url, contentType, body, header...)
}

func do(t *testing.T, method, url, contentType, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(raw)
}
