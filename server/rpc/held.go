package rpc

import (
	"context"
	"encoding/binary"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/wire"
)

// holdable reports whether a request is a Subscribe call whose stream may outlive the layers that opened it, over HTTP/2:
// one of the Connect or the gRPC protocol, without a deadline of the client's own, which those layers would look after.
func holdable(r *http.Request) bool {
	if r.ProtoMajor != 2 || r.URL.Path != parleyv1connect.SyncServiceSubscribeProcedure {
		return false
	}
	if r.Header.Get("Connect-Timeout-Ms") != "" || r.Header.Get("Grpc-Timeout") != "" {
		return false
	}
	contentType := r.Header.Get("Content-Type")
	return strings.HasPrefix(contentType, "application/connect+") || isGRPC(contentType)
}

// isGRPC is true of gRPC, not of gRPC-Web.
func isGRPC(contentType string) bool {
	return contentType == "application/grpc" || strings.HasPrefix(contentType, "application/grpc+")
}

// hold serves a holdable request. net/http gives an HTTP/2 call a goroutine for as long as it is open. So the layers run in
// another one, whose deep stack goes when the stream is parked; the call's own, with hardly anything on its stack, stays
// to keep the call open until the stream ends or the peer goes.
func (f *front) hold(w http.ResponseWriter, r *http.Request) {
	d := &detachable{ResponseWriter: w, held: &heldSink{w: w, grpc: isGRPC(r.Header.Get("Content-Type")), over: make(chan struct{})}}
	panicked := make(chan any, 1)
	go func() {
		defer func() { panicked <- recover() }()
		f.serve(d, d, r)
	}()
	p := <-panicked
	if !d.gone {
		if p != nil {
			panic(p) //nolint:forbidigo // it is the call's, for net/http to see
		}
		return
	}
	s := d.held
	if p != nil {
		s.end(context.Canceled)
	}
	select {
	case <-s.over:
	case <-r.Context().Done():
		s.end(context.Canceled)
		<-s.over
	}
}

// heldSink writes a stream's frames as the answer of an HTTP/2 call that is held open. Writing may always wait, so all of
// it is left to Finish.
type heldSink struct {
	w     http.ResponseWriter
	grpc  bool
	codec wire.Codec
	call  *call
	end   func(error)   // ends the stream
	over  chan struct{} // closed when the stream has ended and all is written
	rest  []byte
}

// Codec implements stream.Sink.
func (s *heldSink) Codec() wire.Codec { return s.codec }

// Send implements stream.Direct.
func (s *heldSink) Send(f *wire.Frame) error {
	if err := s.Finish(); err != nil {
		return err
	}
	s.rest = appendEnvelope(make([]byte, 0, prefixBytes+f.Len()), 0, f.Bytes())
	return nil
}

// Waiting implements stream.Direct.
func (s *heldSink) Waiting() bool { return len(s.rest) > 0 }

// Finish implements stream.Direct.
func (s *heldSink) Finish() error {
	if len(s.rest) == 0 {
		return nil
	}
	control := http.NewResponseController(s.w)
	if err := control.SetWriteDeadline(connDeadline(writeDeadline)); err != nil {
		return hungUp(err)
	}
	_, err := s.w.Write(s.rest)
	s.rest = nil
	if err == nil {
		err = control.Flush()
	}
	if err != nil {
		return hungUp(err)
	}
	return hungUp(control.SetWriteDeadline(time.Time{}))
}

// Context implements stream.Direct.
func (s *heldSink) Context() context.Context { return s.call.background() }

// End implements stream.Direct.
func (s *heldSink) End(why error) {
	defer close(s.over)
	ctx := s.Context()
	s.call.code = "ok"
	var said *connect.Error
	if why != nil {
		said = asWire(ctx, why)
	}
	err := s.Finish()
	switch {
	case err != nil: // nobody listens
	case s.grpc:
		for key, values := range endTrailers(said) {
			s.w.Header()[http.TrailerPrefix+key] = values
		}
	default:
		s.rest = appendEnvelope(nil, flagEnd, endMessage(said))
		_ = s.Finish()
	}
	s.call.obs.end(ctx, s.call)
}

// appendEnvelope appends a message with its prefix, as Connect streams and gRPC have it.
func appendEnvelope(b []byte, flags byte, message []byte) []byte {
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message))) //nolint:gosec // a frame's length
	return append(b, message...)
}

// endTrailers are what ends a gRPC call, in connect's own encoding; nil is no error.
func endTrailers(err *connect.Error) http.Header {
	if err == nil {
		return http.Header{"Grpc-Status": {"0"}, "Grpc-Message": {""}}
	}
	w := &recorder{header: make(http.Header)}
	r := &http.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {"application/grpc+proto"}}}
	if connect.NewErrorWriter().Write(w, r, err) != nil {
		return http.Header{"Grpc-Status": {"13"}}
	}
	out := make(http.Header)
	for _, key := range strings.Split(w.header.Get("Trailer"), ",") {
		if values := w.header.Values(key); len(values) > 0 {
			out[http.CanonicalHeaderKey(key)] = values
		}
	}
	return out
}
