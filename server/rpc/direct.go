package rpc

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// detachable is the answer of a Subscribe call that may be taken from the layers that opened its stream: over plain
// HTTP/1.1 with its connection, so that a stream that waits costs neither net/http's goroutines and buffers nor connect's;
// over HTTP/2 without it, so that it costs none of connect's. What the layers above write after that goes nowhere; the
// end of the stream is said by the directSink or the heldSink. Used by the goroutine in which those layers run.
type detachable struct {
	http.ResponseWriter
	held *heldSink // over HTTP/2, else nil
	gone bool
}

func newDetachable(w http.ResponseWriter, r *http.Request) *detachable {
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil || r.URL.Path != parleyv1connect.SyncServiceSubscribeProcedure {
		return nil
	}
	return &detachable{ResponseWriter: w}
}

func (d *detachable) isGone() bool { return d != nil && d.gone }

// Unwrap lets http.ResponseController find the connection.
func (d *detachable) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// Header implements http.ResponseWriter.
func (d *detachable) Header() http.Header {
	if d.gone {
		return make(http.Header)
	}
	return d.ResponseWriter.Header()
}

// Write implements http.ResponseWriter.
func (d *detachable) Write(p []byte) (int, error) {
	if d.gone {
		return len(p), nil
	}
	return d.ResponseWriter.Write(p)
}

// FlushError is what http.ResponseController calls.
func (d *detachable) FlushError() error {
	if d.gone {
		return nil
	}
	return http.NewResponseController(d.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (d *detachable) Flush() { _ = d.FlushError() }

// detachableSink is a connectSink whose stream may outlive the call.
type detachableSink struct {
	*connectSink
	call *call
}

// Detach implements stream.Detachable. Frames were sent before, so the head of the answer is out.
func (s *detachableSink) Detach(end func(error)) stream.Direct {
	after := &call{id: s.call.id, started: s.call.started, obs: s.call.obs,
		procedure: s.call.procedure, stream: true, principal: s.call.principal}
	if held := s.call.detachable.held; held != nil {
		s.call.detachable.gone = true
		held.codec, held.call, held.end = s.codec, after, end
		return held
	}
	conn, buffered, err := s.control.Hijack()
	if err != nil {
		return nil
	}
	s.call.detachable.gone = true
	d := &directSink{conn: conn, codec: s.codec, call: after}
	if sc, ok := conn.(syscall.Conn); ok && buffered.Writer.Buffered() == 0 {
		d.raw, _ = sc.SyscallConn()
	}
	d.write = d.writeOnce
	go watch(conn, end)
	return d
}

// watch ends the stream when its peer goes. What a peer still sends means nothing.
func watch(conn net.Conn, end func(error)) {
	var ignored [16]byte
	for {
		if _, err := conn.Read(ignored[:]); err != nil {
			end(context.Canceled)
			return
		}
	}
}

// directSink writes a Connect stream's frames to a connection that was taken from net/http, each as one chunk
// (RFC 9112, section 7.1) and, where the connection takes it, with one system call, no timer and no wait.
type directSink struct {
	conn  net.Conn
	raw   syscall.RawConn // nil where the connection cannot be written to without waiting
	codec wire.Codec
	call  *call
	rest  []byte // what the connection did not take at once
	// broken: a write failed. Where it broke off is not known, so nothing can follow.
	broken bool

	// write is writeOnce, made once; the others are what it is given and returns.
	write  func(fd uintptr) bool
	out    []byte
	wrote  int
	failed error
}

// chunks are buffers for frames on their way.
var chunks = sync.Pool{New: func() any { return new([]byte) }}

// maxChunkKept is the largest buffer that is kept for the next frame, in bytes.
const maxChunkKept = 256 << 10

// flagEnd marks the envelope that ends a Connect stream.
const flagEnd = 2

// Codec implements stream.Sink.
func (s *directSink) Codec() wire.Codec { return s.codec }

// Send implements stream.Direct.
func (s *directSink) Send(f *wire.Frame) error {
	if err := s.Finish(); err != nil {
		return err
	}
	chunk, _ := chunks.Get().(*[]byte)
	*chunk = appendChunk((*chunk)[:0], 0, f.Bytes())
	n, err := s.try(*chunk)
	if err == nil && n < len(*chunk) {
		s.rest = bytes.Clone((*chunk)[n:])
	}
	if cap(*chunk) <= maxChunkKept {
		chunks.Put(chunk)
	}
	return err
}

// try writes what the connection takes without waiting.
func (s *directSink) try(b []byte) (n int, err error) {
	if s.raw == nil {
		return 0, nil
	}
	s.out = b
	err = s.raw.Write(s.write)
	s.out = nil
	if err != nil {
		return 0, hungUp(err)
	}
	return s.wrote, hungUp(s.failed)
}

// writeOnce makes the system call of try.
func (s *directSink) writeOnce(fd uintptr) bool {
	n, err := syscall.Write(int(fd), s.out)
	if err == syscall.EAGAIN || err == syscall.EINTR { //nolint:errorlint // as system calls return them
		err = nil
	}
	s.wrote, s.failed = max(n, 0), err
	s.broken = err != nil
	return true // do not wait until it can take more
}

// Waiting implements stream.Direct.
func (s *directSink) Waiting() bool { return len(s.rest) > 0 }

// Finish implements stream.Direct.
func (s *directSink) Finish() error {
	if len(s.rest) == 0 {
		return nil
	}
	if err := s.conn.SetWriteDeadline(connDeadline(writeDeadline)); err != nil {
		return hungUp(err)
	}
	_, err := s.conn.Write(s.rest)
	s.rest = nil
	if err != nil {
		s.broken = true
		return hungUp(err)
	}
	return hungUp(s.conn.SetWriteDeadline(time.Time{}))
}

// Context implements stream.Direct.
func (s *directSink) Context() context.Context { return s.call.background() }

// background is the context of a stream that outlives its call.
func (c *call) background() context.Context {
	ctx := context.WithValue(context.Background(), callKey{}, c) //nolint:forbidigo // the call is over, the stream is not
	return WithPrincipal(ctx, c.principal)
}

// End implements stream.Direct.
func (s *directSink) End(why error) {
	ctx := s.Context()
	s.call.code = "ok"
	var said *connect.Error
	if why != nil {
		said = asWire(ctx, why)
	}
	if !s.broken {
		s.rest = append(s.rest, appendChunk(nil, flagEnd, endMessage(said))...)
		s.rest = append(s.rest, "0\r\n\r\n"...) // the chunk that ends an answer
		_ = s.Finish()
	}
	_ = s.conn.Close()
	s.call.obs.end(ctx, s.call)
}

// appendChunk appends an envelope of the Connect protocol as one chunk.
func appendChunk(b []byte, flags byte, message []byte) []byte {
	b = strconv.AppendInt(b, int64(prefixBytes+len(message)), 16)
	b = append(b, '\r', '\n')
	b = appendEnvelope(b, flags, message)
	return append(b, '\r', '\n')
}

// endMessage is an error, or nil for none, as the last message of a Connect stream, in connect's own encoding.
func endMessage(err *connect.Error) []byte {
	if err == nil {
		return []byte("{}")
	}
	w := &recorder{header: make(http.Header)}
	r := &http.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {"application/connect+proto"}}}
	if connect.NewErrorWriter().Write(w, r, err) != nil || w.Len() < prefixBytes {
		return []byte("{}")
	}
	return w.Bytes()[prefixBytes:]
}

// recorder keeps an answer.
type recorder struct {
	bytes.Buffer
	header http.Header
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}
