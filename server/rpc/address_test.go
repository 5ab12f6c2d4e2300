package rpc

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/refusal"
)

func TestClientAddress(t *testing.T) {
	proxies, err := ParseProxies([]string{"10.0.0.0/8", "192.0.2.7", "::1", "2001:db8:1::/48"})
	require.NoError(t, err)
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string // empty: nobody's
	}{
		{"a stranger", "203.0.113.5:99", nil, "203.0.113.5"},
		{"a stranger's word is nothing", "203.0.113.5:99", []string{"198.51.100.1"}, "203.0.113.5"},
		{"a proxy alone", "10.1.2.3:99", nil, ""},
		{"behind a proxy", "10.1.2.3:99", []string{"198.51.100.1"}, "198.51.100.1"},
		{"only what the last proxy wrote", "10.1.2.3:99", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "10.1.2.3:99", []string{"198.51.100.1, 192.0.2.7"}, "198.51.100.1"},
		{"two lines", "10.1.2.3:99", []string{"1.1.1.1", "198.51.100.1,10.9.9.9"}, "198.51.100.1"},
		{"with a port", "10.1.2.3:99", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"nonsense", "10.1.2.3:99", []string{"198.51.100.1, unknown"}, ""},
		{"IPv6 counts by /64", "[2001:db8:2:3:4:5:6:7]:99", nil, "2001:db8:2:3::/64"},
		{"IPv6 in brackets", "[::1]:99", []string{"[2001:db8:2:3::9]:80"}, "2001:db8:2:3::/64"},
		{"IPv4 in IPv6", "[::ffff:203.0.113.5]:99", nil, "203.0.113.5"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
		r.RemoteAddr = c.peer
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		a, known := proxies.client(r)
		got := ""
		if known {
			got = networkOf(a)
		}
		require.Equal(t, c.want, got, c.name)
	}
	for _, text := range []string{"", "10.0.0.0/33", "lb.example", "*"} {
		_, err := ParseProxies([]string{text})
		require.Error(t, err, text)
	}
}

// addresses refuse one network.
type addresses string

func (a addresses) Admit(_ context.Context, network string) error {
	if network == string(a) {
		return refusal.New(refusal.RateLimited, "Too many.", "limit", "calls-ip", "retry_after_ms", "1200")
	}
	return nil
}

// A refusal says when to come back, three ways, over every protocol.
func TestRefusedAddress(t *testing.T) {
	f := &fakes{send: sent}
	cfg := f.config(t)
	proxies, err := ParseProxies([]string{"127.0.0.0/8"})
	require.NoError(t, err)
	cfg.Addresses, cfg.Proxies = addresses("198.51.100.1"), proxies
	url := serve(t, cfg)
	protocols(t, func(t *testing.T, hc connect.HTTPClient, opts ...connect.ClientOption) {
		client := parleyv1connect.NewMessageServiceClient(hc, url, append(opts, as(aliceToken), from("198.51.100.1"))...)
		_, err := client.SendMessage(t.Context(), textTo("bob", "x"))
		detail := requireError(t, err, connect.CodeResourceExhausted, parleyv1.ErrorReason_ERROR_REASON_RATE_LIMITED)
		require.Equal(t, "1200", detail.GetMetadata()["retry_after_ms"])
		requireRetryInfo(t, err)
		client = parleyv1connect.NewMessageServiceClient(hc, url, append(opts, as(aliceToken), from("198.51.100.2"))...)
		_, err = client.SendMessage(t.Context(), textTo("bob", "x"))
		require.NoError(t, err)
	})
	for _, path := range []string{"/v1/unread", "/v1/subscribe", "/", sendPath, "/nothing"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, http.NoBody)
		require.NoError(t, err)
		req.Header.Set("X-Forwarded-For", "198.51.100.1")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusTooManyRequests, res.StatusCode, path)
		require.Equal(t, "2", res.Header.Get("Retry-After"), path)
		require.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"))
	}
}

func requireRetryInfo(t *testing.T, err error) {
	t.Helper()
	ce, ok := err.(*connect.Error) //nolint:errorlint // as clients get it
	require.True(t, ok)
	for _, d := range ce.Details() {
		v, err := d.Value()
		require.NoError(t, err)
		if info, ok := v.(*errdetails.RetryInfo); ok {
			require.EqualValues(t, 1200, info.GetRetryDelay().AsDuration().Milliseconds())
			return
		}
	}
	t.Fatal("no RetryInfo")
}

// from makes calls come from an address, as a proxy would tell.
func from(address string) connect.ClientOption {
	return connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("X-Forwarded-For", address)
			return next(ctx, req)
		}
	}))
}

// The header is there whoever refuses: here the handler, over REST and over Connect.
func TestRetryAfter(t *testing.T) {
	f := &fakes{send: func(context.Context, *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
		return nil, refusal.New(refusal.Overloaded, "Full.", "retry_after_ms", "1200")
	}}
	url := serve(t, f.config(t))
	body := `{"peerUserId":"bob","messageId":"01890a5d-ac96-774b-bcce-b302099a8057","content":{"text":{"body":"x"}}}`
	session := "/v1/sessions/01890a5d-ac96-774b-bcce-b302099a8057/messages"
	for path, body := range map[string]string{sendPath: body, session: `{"messageId":"01890a5d-ac96-774b-bcce-b302099a8057","content":{"text":{"body":"x"}}}`} {
		status, after := asAlice(t, http.DefaultClient, url+path, body)
		require.Equal(t, http.StatusTooManyRequests, status, path)
		require.Equal(t, []string{"2"}, after, path)
	}
}
