package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/refusal"
)

const sendPath = parleyv1connect.MessageServiceSendMessageProcedure

func sent(context.Context, *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
	return &parleyv1.SendMessageResponse{Seq: 1}, nil
}

func TestValidation(t *testing.T) {
	f := &fakes{send: sent, subscribe: func(context.Context, *parleyv1.SubscribeRequest, *connect.ServerStream[parleyv1.SubscribeResponse]) error {
		return errors.New("the handler ran")
	}}
	url := serve(t, f.config(t))
	protocols(t, func(t *testing.T, hc connect.HTTPClient, opts ...connect.ClientOption) {
		opts = append(opts, as(aliceToken))
		bad := textTo("bob", "very private")
		bad.MessageId = "very private"
		_, err := parleyv1connect.NewMessageServiceClient(hc, url, opts...).SendMessage(t.Context(), bad)
		detail := requireError(t, err, connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		require.Equal(t, map[string]string{"field": "message_id", "rule": "string.uuid"}, detail.GetMetadata())
		require.NotContains(t, err.Error(), "private")

		stream, err := parleyv1connect.NewSyncServiceClient(hc, url, opts...).
			Subscribe(t.Context(), &parleyv1.SubscribeRequest{Cursors: []*parleyv1.Cursor{{SessionId: "x"}}})
		require.NoError(t, err)
		require.False(t, stream.Receive())
		detail = requireError(t, stream.Err(), connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		require.Equal(t, "cursors[0].session_id", detail.GetMetadata()["field"])
	})
}

func TestUndecodable(t *testing.T) {
	url := serve(t, (&fakes{send: sent}).config(t))
	for name, body := range map[string][2]string{
		"no JSON":       {"application/json", `{"content": very private`},
		"wrong type":    {"application/json", `{"messageId": {"very private": 1}}`},
		"empty":         {"application/json", ``},
		"invalid UTF-8": {"application/json", "{\"messageId\":\"very private \xff\"}"},
		"charset":       {"application/json; charset=utf-8", `[`},
		"no protobuf":   {"application/proto", "very private"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := post(t, url+sendPath, body[0], body[1], "Authorization", "Bearer "+aliceToken)
			require.Equal(t, http.StatusBadRequest, status)
			require.Contains(t, answer, "ERROR_REASON_INVALID_FIELD")
			require.Contains(t, answer, `"encoding"`)
			require.NotContains(t, answer, "private")
		})
	}
	t.Run("stranger", func(t *testing.T) {
		status, answer := post(t, url+sendPath, "application/json", `{`)
		require.Equal(t, http.StatusUnauthorized, status)
		require.Contains(t, answer, "ERROR_REASON_TOKEN_MISSING")
	})
}

// What is framed or compressed wrongly is the caller's mistake, with a reason, whatever the protocol.
func TestMisframed(t *testing.T) {
	url := serve(t, (&fakes{send: sent}).config(t))
	for name, c := range map[string]struct{ prefix, encoding string }{
		"no message":          {"", ""},
		"half a prefix":       {"\x00\x00", ""},
		"cut short":           {"\x00\x00\x00\x00\x09\x0a", ""},
		"two messages":        {"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", ""},
		"unknown flags":       {"\x40\x00\x00\x00\x00", ""},
		"compressed, but how": {"\x01\x00\x00\x00\x01x", ""},
		"not compressed":      {"\x01\x00\x00\x00\x01x", "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+sendPath, strings.NewReader(c.prefix))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("Authorization", "Bearer "+aliceToken)
			if c.encoding != "" {
				req.Header.Set("Grpc-Encoding", c.encoding)
			}
			res, err := h2c(t).Do(req)
			require.NoError(t, err)
			defer res.Body.Close()
			_, err = io.Copy(io.Discard, res.Body)
			require.NoError(t, err)
			status := res.Trailer.Get("Grpc-Status") + res.Header.Get("Grpc-Status")
			require.Equal(t, "3", status)
			require.NotEmpty(t, res.Trailer.Get("Grpc-Status-Details-Bin")+res.Header.Get("Grpc-Status-Details-Bin"))
		})
	}
	status, answer := post(t, url+sendPath, "application/json", "not compressed", "Authorization", "Bearer "+aliceToken,
		"Content-Encoding", "gzip")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, answer, "ERROR_REASON_INVALID_FIELD")
}

// A request of exactly MaxRequestBytes passes, one byte more does not, whatever the protocol.
func TestRequestSize(t *testing.T) {
	var got int
	f := &fakes{send: func(ctx context.Context, req *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
		return sent(ctx, req)
	}, unread: func(_ context.Context, req *parleyv1.GetUnreadRequest) (*parleyv1.GetUnreadResponse, error) {
		got = len(req.GetSessionIds())
		return &parleyv1.GetUnreadResponse{}, nil
	}}
	url := serve(t, f.config(t))
	protocols(t, func(t *testing.T, hc connect.HTTPClient, opts ...connect.ClientOption) {
		client := parleyv1connect.NewMessageServiceClient(hc, url, append(opts, as(aliceToken))...)
		_, err := client.SendMessage(t.Context(), textTo("bob", strings.Repeat("x", MaxRequestBytes)))
		requireError(t, err, connect.CodeResourceExhausted, parleyv1.ErrorReason_ERROR_REASON_REQUEST_TOO_LARGE)
		_, err = client.SendMessage(t.Context(), textTo("bob", strings.Repeat("x", 1<<20)))
		requireError(t, err, connect.CodeResourceExhausted, parleyv1.ErrorReason_ERROR_REASON_REQUEST_TOO_LARGE)
		_, err = client.SendMessage(t.Context(), textTo("bob", strings.Repeat("x", 16<<10)))
		require.NoError(t, err)
	})

	exact := `{` + strings.Repeat(" ", MaxRequestBytes-2) + `}`
	unread := url + parleyv1connect.StateServiceGetUnreadProcedure
	got = -1
	status, _ := post(t, unread, "application/json", exact, "Authorization", "Bearer "+aliceToken)
	require.Equal(t, http.StatusOK, status)
	require.Zero(t, got)
	status, answer := post(t, unread, "application/json", exact+" ", "Authorization", "Bearer "+aliceToken)
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Contains(t, answer, "ERROR_REASON_REQUEST_TOO_LARGE")

	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	_, err := zip.Write(make([]byte, 50<<20))
	require.NoError(t, err)
	require.NoError(t, zip.Close())
	require.Less(t, bomb.Len(), MaxRequestBytes)
	status, answer = post(t, unread, "application/json", bomb.String(), "Authorization", "Bearer "+aliceToken,
		"Content-Encoding", "gzip")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Contains(t, answer, "ERROR_REASON_REQUEST_TOO_LARGE")
}

// A message that is announced as larger than allowed is refused before it comes.
func TestAnnouncedSize(t *testing.T) {
	url := serve(t, (&fakes{}).config(t))
	prefix := binary.BigEndian.AppendUint32([]byte{0}, 1<<30)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+sendPath, bytes.NewReader(prefix))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Authorization", "Bearer "+aliceToken)
	res, err := h2c(t).Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.Equal(t, "8", res.Trailer.Get("Grpc-Status"))
	require.NotEmpty(t, res.Trailer.Get("Grpc-Status-Details-Bin"))
}

// A body that trickles in does not hold the server.
func TestSlowBody(t *testing.T) {
	cfg := (&fakes{}).config(t)
	cfg.UnaryTimeout = 50 * time.Millisecond
	url := serve(t, cfg)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST "+sendPath+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+aliceToken+
		"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	answer, err := io.ReadAll(conn) // ends when the server closes
	require.NoError(t, err)
	require.Contains(t, string(answer), "deadline_exceeded")
	require.Contains(t, string(answer), "CALL_ENDED")
}

// A stream outlives the time in which its request must arrive.
func TestStreamOutlivesBodyDeadline(t *testing.T) {
	f := &fakes{subscribe: func(ctx context.Context, _ *parleyv1.SubscribeRequest, out *connect.ServerStream[parleyv1.SubscribeResponse]) error {
		require.NotNil(t, ResponseController(ctx))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Second):
			return out.Send(&parleyv1.SubscribeResponse{Events: []*parleyv1.Event{{}}})
		}
	}}
	cfg := f.config(t)
	cfg.UnaryTimeout = 2 * time.Second // in which the requests must have come, on a busy machine too
	url := serve(t, cfg)
	protocols(t, func(t *testing.T, hc connect.HTTPClient, opts ...connect.ClientOption) {
		t.Parallel()
		client := parleyv1connect.NewSyncServiceClient(hc, url, append(opts, as(aliceToken))...)
		var stream *connect.ServerStreamForClient[parleyv1.SubscribeResponse]
		for try, came := 1, false; !came; try++ {
			var err error
			stream, err = client.Subscribe(t.Context(), &parleyv1.SubscribeRequest{})
			require.NoError(t, err)
			came = stream.Receive()
			require.True(t, came || try < 10, "%v", stream.Err())
		}
		require.Len(t, stream.Msg().GetEvents(), 1)
		require.False(t, stream.Receive())
		require.NoError(t, stream.Err())
	})
}

func TestAnswers(t *testing.T) {
	var lines bytes.Buffer
	var next func(ctx context.Context) error
	f := &fakes{send: func(ctx context.Context, _ *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
		if err := next(ctx); err != nil {
			return nil, err
		}
		return &parleyv1.SendMessageResponse{}, nil
	}}
	cfg := f.config(t)
	cfg.Log = slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg := prometheus.NewRegistry()
	cfg.Metrics = reg
	url := serve(t, cfg)
	call := func() error {
		_, err := parleyv1connect.NewMessageServiceClient(http.DefaultClient, url, as(aliceToken)).
			SendMessage(t.Context(), textTo("bob", "very private"))
		return err
	}

	next = func(context.Context) error { return errors.New("the disk is full") }
	err := call()
	requireError(t, err, connect.CodeInternal, parleyv1.ErrorReason_ERROR_REASON_INTERNAL)
	require.Equal(t, "internal: internal error", err.Error())

	next = func(context.Context) error { panic("a mistake") }
	requireError(t, call(), connect.CodeInternal, parleyv1.ErrorReason_ERROR_REASON_INTERNAL)

	next = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	status, answer := post(t, url+sendPath, "application/json", goodSend, "Authorization", "Bearer "+aliceToken, "Connect-Timeout-Ms", "200")
	require.Equal(t, http.StatusGatewayTimeout, status, answer)
	require.Contains(t, answer, parleyv1.ErrorReason_ERROR_REASON_CALL_ENDED.String())

	next = func(context.Context) error { return refusal.New(refusal.Muted, "Muted.", "until", "later") }
	detail := requireError(t, call(), connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_MUTED)
	require.Equal(t, "later", detail.GetMetadata()["until"])

	next = func(context.Context) error { return nil }
	require.NoError(t, call())

	// The end of a call is logged and counted after its answer was sent.
	require.Eventually(t, func() bool {
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, family := range families {
			if family.GetName() == "parley_calls_total" {
				return len(family.GetMetric()) == 4 // internal twice
			}
		}
		return false
	}, time.Minute, 5*time.Millisecond)
	log := lines.String()
	require.Equal(t, 1, strings.Count(log, "the disk is full"))
	require.Equal(t, 1, strings.Count(log, "panic: a mistake"))
	require.Contains(t, log, `"procedure":"`+sendPath+`"`)
	require.NotContains(t, log, "very private")
	require.NotContains(t, log, aliceToken)
}
