//go:build unix

package rpc

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

// nowhere is an answer that is thrown away.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n nowhere) WriteHeader(int)             {}

// What a SendMessage costs between net/http and the messaging service, by the short way and by the long one.
func BenchmarkSendMessage(b *testing.B) {
	id := uuid.NewString()
	receipt := &parleyv1.SendMessageResponse{SessionId: id, MessageId: id, Seq: 7, Epoch: "7711388462069418191-1-16384",
		CreatedAt: timestamppb.Now()}
	f := &fakes{send: func(context.Context, *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
		return receipt, nil
	}}
	h, err := New(f.config(b))
	require.NoError(b, err)
	body, err := proto.Marshal(plainMessage(id, id, "x"))
	require.NoError(b, err)
	for _, way := range []string{"short", "long"} {
		b.Run(way, func(b *testing.B) {
			content := bytes.NewReader(body)
			req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, parleyv1connect.MessageServiceSendMessageProcedure, nil)
			req.Header.Set("Content-Type", "application/proto")
			req.Header.Set("Authorization", "Bearer "+aliceToken)
			req.Header.Set("Connect-Protocol-Version", "1")
			req.ContentLength = int64(len(body))
			if way == "long" {
				req.ContentLength = -1 // as of a body in chunks
			}
			b.ReportAllocs()
			for b.Loop() {
				content.Reset(body)
				req.Body = io.NopCloser(content)
				h.ServeHTTP(nowhere{make(http.Header)}, req)
			}
		})
	}
}

// The same over a connection of HTTP/1.1, net/http and the kernel included: cpu-µs/op is the processor time of this process,
// whose other part is a client that does next to nothing.
func BenchmarkSendMessageOverHTTP(b *testing.B) {
	id := uuid.NewString()
	receipt := &parleyv1.SendMessageResponse{SessionId: id, MessageId: id, Seq: 7, Epoch: "7711388462069418191-1-16384",
		CreatedAt: timestamppb.Now()}
	f := &fakes{send: func(context.Context, *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
		return receipt, nil
	}}
	cfg := f.config(b)
	h, err := New(cfg)
	require.NoError(b, err)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = NewHTTPServer(b.Context(), h, nil, cfg.Log)
	srv.Start()
	b.Cleanup(srv.Close)
	body, err := proto.Marshal(plainMessage(id, id, "x"))
	require.NoError(b, err)
	for way, header := range map[string]string{"short": "", "long": "Content-Encoding: identity\r\n"} {
		b.Run(way, func(b *testing.B) {
			conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", strings.TrimPrefix(srv.URL, "http://"))
			require.NoError(b, err)
			b.Cleanup(func() { _ = conn.Close() })
			req := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/proto\r\nAuthorization: Bearer %s\r\n%sContent-Length: %d\r\n\r\n%s",
				sendPath, aliceToken, header, len(body), body)
			br := bufio.NewReader(conn)
			b.ReportAllocs()
			before := processTime(b)
			for b.Loop() {
				if _, err := conn.Write(req); err != nil {
					b.Fatal(err)
				}
				res, err := http.ReadResponse(br, nil)
				if err != nil || res.StatusCode != http.StatusOK {
					b.Fatal(res, err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			b.ReportMetric(float64((processTime(b)-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
		})
	}
}

// processTime is the processor time that this process has used.
func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
