package rpc

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/page"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// writeDeadline bounds each write to a stream. Nothing else frees the server from a peer that stays connected and does
// not read: neither pings nor timeouts of the connection.
const writeDeadline = 5 * time.Second

// defaultPull is the page size of PullOffline where the request says 0.
const defaultPull = 100

// SyncServer implements SyncService.
type SyncServer struct {
	Streams  *stream.Manager
	Acks     *cursor.Acks
	Sessions *session.Service
	Signals  Signals
	Epoch    stream.Epoch
}

// Signals takes what is ephemeral to the session's streams, on all nodes. It never blocks.
type Signals interface {
	Signal(sessionID uuid.UUID, ev *parleyv1.Event)
}

// Subscribe implements SyncService.
func (s *SyncServer) Subscribe(ctx context.Context, req *parleyv1.SubscribeRequest, out *connect.ServerStream[parleyv1.SubscribeResponse]) error {
	conn := out.Conn()
	sink := &connectSink{conn: conn, control: ResponseController(ctx), codec: wire.CodecOf(conn.RequestHeader().Get("Content-Type"))}
	c := callFrom(ctx)
	if d := c.detachable; d != nil && (d.held != nil || conn.Peer().Protocol == connect.ProtocolConnect) {
		if d.held == nil {
			conn.ResponseHeader().Set("Connection", "close") // it is not used again once it was taken from net/http
		}
		return s.Serve(ctx, PrincipalFrom(ctx), req, &detachableSink{connectSink: sink, call: c})
	}
	return s.Serve(ctx, PrincipalFrom(ctx), req, sink)
}

// Serve runs a stream into a sink until either end ends it.
func (s *SyncServer) Serve(ctx context.Context, p auth.Principal, req *parleyv1.SubscribeRequest, sink stream.Sink) error {
	r := stream.Request{Epoch: req.GetEpoch(), MaxBacklog: int64(req.GetMaxBacklog()), Fresh: req.GetFresh()}
	for _, c := range req.GetCursors() {
		r.Cursors = append(r.Cursors, stream.Cursor{SessionID: uuid.MustParse(c.GetSessionId()), Seq: c.GetSeq()})
	}
	return s.Streams.Serve(ctx, stream.Caller{UserID: p.UserID, DeviceID: p.DeviceID, Expires: p.ExpiresAt, Key: p.Key}, r, sink)
}

// connectSink writes frames to a Connect, gRPC or gRPC-Web stream.
type connectSink struct {
	conn    connect.StreamingHandlerConn
	control *http.ResponseController
	codec   wire.Codec
}

func (s *connectSink) Codec() wire.Codec { return s.codec }

func (s *connectSink) Send(f *wire.Frame) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeDeadline)); err != nil { //nolint:forbidigo // a deadline of the kernel's
		return hungUp(err)
	}
	if err := s.conn.Send(f); err != nil {
		if connect.CodeOf(err) == connect.CodeUnknown { // what connect says of a write that failed
			return hungUp(err)
		}
		return err
	}
	return hungUp(s.control.SetWriteDeadline(time.Time{}))
}

// PullOffline implements SyncService.
func (s *SyncServer) PullOffline(ctx context.Context, req *parleyv1.PullOfflineRequest) (*parleyv1.PullOfflineResponse, error) {
	p := PrincipalFrom(ctx)
	var after stream.Mark
	// A token belongs to one life of the log, as the positions in it do.
	if err := page.Decode(page.Offline.For(s.Epoch.Current()), req.GetPageToken(), &after.SessionID, &after.Seq); err != nil {
		return nil, err
	}
	limit := int64(req.GetLimit())
	if limit == 0 {
		limit = defaultPull
	}
	pulled, err := s.Streams.Pull(ctx, stream.Caller{UserID: p.UserID, DeviceID: p.DeviceID}, after, limit)
	if err != nil {
		return nil, err
	}
	res := &parleyv1.PullOfflineResponse{Skipped: pulled.Skipped, Epoch: pulled.Epoch}
	for _, e := range pulled.Entries {
		res.Messages = append(res.Messages, wire.MessageFor(e.Entry, pulled.StateOf(e)))
	}
	if pulled.Next != (stream.Mark{}) {
		res.NextPageToken = page.Encode(page.Offline.For(pulled.Epoch), pulled.Next.SessionID, pulled.Next.Seq)
	}
	return res, nil
}

var epochChanged = refusal.New(refusal.EpochChanged, "These positions belong to another life of the log; start afresh.")

// Ack implements SyncService.
func (s *SyncServer) Ack(ctx context.Context, req *parleyv1.AckRequest) (*parleyv1.AckResponse, error) {
	if e := req.GetEpoch(); e != "" && e != s.Epoch.Current() {
		return nil, epochChanged
	}
	acks := make([]cursor.Ack, len(req.GetAcks()))
	for i, a := range req.GetAcks() {
		acks[i] = cursor.Ack{SessionID: uuid.MustParse(a.GetSessionId()), Seq: a.GetSeq()}
	}
	p := PrincipalFrom(ctx)
	if err := s.Acks.Ack(ctx, p.UserID, p.DeviceID, acks); err != nil {
		return nil, err
	}
	return &parleyv1.AckResponse{}, nil
}

// SendSignal implements SyncService.
func (s *SyncServer) SendSignal(ctx context.Context, req *parleyv1.SendSignalRequest) (*parleyv1.SendSignalResponse, error) {
	p := PrincipalFrom(ctx)
	id := uuid.MustParse(req.GetSessionId())
	if _, _, err := s.Sessions.Authorize(ctx, p.UserID, id, session.Signal); err != nil {
		return nil, err
	}
	s.Signals.Signal(id, &parleyv1.Event{Kind: &parleyv1.Event_Signal{Signal: &parleyv1.SignalEvent{
		SessionId: id.String(), SenderId: p.UserID, SenderDeviceId: p.DeviceID, Signal: req.GetSignal()}}})
	return &parleyv1.SendSignalResponse{}, nil
}
