package rpc

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

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
