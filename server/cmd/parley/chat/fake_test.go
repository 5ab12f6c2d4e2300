package chat

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/session"
)

const patience = time.Minute

// fake is a server whose answers a test writes, for what a real one does only once in a while.
type fake struct {
	parleyv1connect.UnimplementedMessageServiceHandler
	parleyv1connect.UnimplementedStateServiceHandler
	parleyv1connect.UnimplementedSyncServiceHandler

	mu      sync.Mutex
	log     []*parleyv1.Message // what history shows
	send    func(n int, req *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error)
	stream  func(ctx context.Context, n int, req *parleyv1.SubscribeRequest, out *connect.ServerStream[parleyv1.SubscribeResponse]) error
	sends   []*parleyv1.SendMessageRequest
	streams []*parleyv1.SubscribeRequest
	acked   chan *parleyv1.AckRequest
	read    chan int64
}

func (f *fake) SendMessage(_ context.Context, req *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends = append(f.sends, req)
	return f.send(len(f.sends), req)
}

func (f *fake) ListMessages(_ context.Context, req *parleyv1.ListMessagesRequest) (*parleyv1.ListMessagesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.log) == 0 {
		return nil, refusal(connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE)
	}
	res := &parleyv1.ListMessagesResponse{HeadSeq: f.log[len(f.log)-1].GetSeq()}
	for _, m := range f.log {
		if m.GetSeq() > req.GetAfterSeq() {
			res.Messages = append(res.Messages, m)
		}
	}
	return res, nil
}

func (f *fake) Subscribe(ctx context.Context, req *parleyv1.SubscribeRequest, out *connect.ServerStream[parleyv1.SubscribeResponse]) error {
	f.mu.Lock()
	f.streams = append(f.streams, req)
	n := len(f.streams)
	f.mu.Unlock()
	return f.stream(ctx, n, req, out)
}

func (f *fake) Ack(_ context.Context, req *parleyv1.AckRequest) (*parleyv1.AckResponse, error) {
	f.acked <- req
	return &parleyv1.AckResponse{}, nil
}

func (f *fake) MarkRead(_ context.Context, req *parleyv1.MarkReadRequest) (*parleyv1.MarkReadResponse, error) {
	f.read <- req.GetUpToSeq()
	return &parleyv1.MarkReadResponse{}, nil
}

// logged puts messages into history.
func (f *fake) logged(ms ...*parleyv1.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = ms
}

func (f *fake) serve(t *testing.T) string {
	t.Helper()
	f.acked, f.read = make(chan *parleyv1.AckRequest, 100), make(chan int64, 100)
	mux := http.NewServeMux()
	mux.Handle(parleyv1connect.NewMessageServiceHandler(f))
	mux.Handle(parleyv1connect.NewStateServiceHandler(f))
	mux.Handle(parleyv1connect.NewSyncServiceHandler(f))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// held is a stream that says nothing more until the client goes.
func held(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func refusal(code connect.Code, reason parleyv1.ErrorReason) error {
	err := connect.NewError(code, errors.New(reason.String()))
	if detail, derr := connect.NewErrorDetail(&parleyv1.ErrorDetail{Reason: reason}); derr == nil {
		err.AddDetail(detail)
	}
	return err
}

func events(evs ...*parleyv1.Event) *parleyv1.SubscribeResponse {
	return &parleyv1.SubscribeResponse{Events: evs}
}

func opened(epoch string) *parleyv1.Event {
	return &parleyv1.Event{Kind: &parleyv1.Event_Opened{Opened: &parleyv1.Opened{Epoch: epoch}}}
}

func entry(m *parleyv1.Message) *parleyv1.Event {
	return &parleyv1.Event{Kind: &parleyv1.Event_Message{Message: m}}
}

// said is a message of bob's to alice.
func said(seq int64, body string) *parleyv1.Message {
	m := text(seq, "bob", body)
	id, _, _ := session.DirectID("alice", "bob")
	m.SessionId = id.String()
	return m
}

// sheet is a UI for tests.
type sheet struct {
	messages, notes chan string
	lines           chan string
}

func newSheet() *sheet {
	return &sheet{messages: make(chan string, 100), notes: make(chan string, 100), lines: make(chan string, 100)}
}

func (s *sheet) Message(l Line) {
	s.messages <- strconv.FormatInt(l.Seq, 10) + " " + l.Sender + ": " + l.Text
}
func (s *sheet) Note(text string)      { s.notes <- text }
func (s *sheet) Status(Status)         {}
func (s *sheet) Lines() <-chan string  { return s.lines }
func (s *sheet) Keys() <-chan struct{} { return nil }
func (s *sheet) Err() error            { return nil }

// shows waits for messages, in this order and nothing else.
func (s *sheet) shows(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		require.Equal(t, w, next(t, s.messages))
	}
}

func next[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

// begin starts alice's chat with bob. Its end is sent to the channel.
func begin(t *testing.T, f *fake, token func(context.Context) (string, error)) (*sheet, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ui, done := newSheet(), make(chan error, 1)
	if token == nil {
		token = func(context.Context) (string, error) { return "token", nil }
	}
	c := New(Config{Server: f.serve(t), User: "alice", Peer: "bob", Token: token}, ui)
	ended := make(chan struct{})
	go func() { defer close(ended); done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return ui, done
}
