package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

// Small frames of a stream go out as they are, even to clients that offer gzip; a page of backlog is compressed.
func TestStreamsCompressOnlyLargeFrames(t *testing.T) {
	event := func(n int) *parleyv1.SubscribeResponse {
		return &parleyv1.SubscribeResponse{Events: []*parleyv1.Event{{Kind: &parleyv1.Event_Message{Message: &parleyv1.Message{
			Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: strings.Repeat("x", n)}}}}}}}}
	}
	f := &fakes{subscribe: func(_ context.Context, _ *parleyv1.SubscribeRequest, out *connect.ServerStream[parleyv1.SubscribeResponse]) error {
		for _, n := range []int{10, compressFrameFrom / 2, 2 * compressFrameFrom} {
			if err := out.Send(event(n)); err != nil {
				return err
			}
		}
		return nil
	}}
	url := serve(t, f.config(t))
	raw, err := proto.Marshal(&parleyv1.SubscribeRequest{})
	require.NoError(t, err)
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(raw))), raw...)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+parleyv1connect.SyncServiceSubscribeProcedure,
		bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/connect+proto")
	req.Header.Set("Connect-Accept-Encoding", "gzip")
	req.Header.Set("Authorization", "Bearer "+aliceToken)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	var compressed []bool
	for {
		var prefix [prefixBytes]byte
		if _, err := io.ReadFull(res.Body, prefix[:]); err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		if prefix[0]&2 == 0 { // not the end of the stream
			compressed = append(compressed, prefix[0]&1 == 1)
		}
		_, err = io.CopyN(io.Discard, res.Body, int64(binary.BigEndian.Uint32(prefix[1:])))
		require.NoError(t, err)
	}
	require.Equal(t, []bool{false, false, true}, compressed)
}

// Reads can be asked for with GET, so that a browser needs no preflight and may repeat them.
func TestConnectGet(t *testing.T) {
	f := &fakes{unread: func(_ context.Context, req *parleyv1.GetUnreadRequest) (*parleyv1.GetUnreadResponse, error) {
		return &parleyv1.GetUnreadResponse{Total: int64(len(req.GetSessionIds()))}, nil
	}}
	url := serve(t, f.config(t))
	client := parleyv1connect.NewStateServiceClient(onlyGet{t}, url, connect.WithHTTPGet(), as(aliceToken))
	res, err := client.GetUnread(t.Context(), &parleyv1.GetUnreadRequest{
		SessionIds: []string{"01890a5d-ac96-774b-bcce-b302099a8057"}})
	require.NoError(t, err)
	require.EqualValues(t, 1, res.GetTotal())

	status, answer := do(t, http.MethodGet, url+sendPath+`?encoding=json&message={}&connect=v1`, "", "",
		"Authorization", "Bearer "+aliceToken)
	require.Equal(t, http.StatusMethodNotAllowed, status, "%s: writes must not be asked for with GET", answer)
}

type onlyGet struct{ t *testing.T }

func (c onlyGet) Do(req *http.Request) (*http.Response, error) {
	require.Equal(c.t, http.MethodGet, req.Method)
	return http.DefaultClient.Do(req)
}

// BenchmarkUnary is the cost of the transport around a handler that does nothing.
func BenchmarkUnary(b *testing.B) {
	f := &fakes{send: sent}
	h, err := New(f.config(b))
	require.NoError(b, err)
	raw, err := proto.Marshal(textTo("bob", "hello"))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, sendPath, bytes.NewReader(raw))
		require.NoError(b, err)
		req.Header.Set("Content-Type", "application/proto")
		req.Header.Set("Authorization", "Bearer "+aliceToken)
		w := &discardWriter{header: make(http.Header)}
		h.ServeHTTP(w, req)
		require.Zero(b, w.status)
	}
}

type discardWriter struct {
	header http.Header
	status int
}

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *discardWriter) WriteHeader(status int)      { w.status = status }
