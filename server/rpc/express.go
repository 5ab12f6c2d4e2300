package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

// express answers the call that a node gets most by a shorter way: SendMessage in the Connect protocol with a binary body
// that is not compressed, for a plain text (plain.go), by somebody who may call. Whatever else comes, all that is refused
// before the handler included, goes to next as if it had come there at once; so there is one place that refuses. The
// answers are the same as by the long way, to the byte; express_test.go compares them.
//
// The long way costs what makes connect general: three protocols, GET, compression, headers and trailers of handlers,
// interceptors. decision 11 has the figures.
type express struct {
	next   http.Handler
	gate   *gate
	send   func(context.Context, *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error)
	answer *answer
	limit  time.Duration // of a call
	errors *connect.ErrorWriter
}

func newExpress(next http.Handler, g *gate, m parleyv1connect.MessageServiceHandler, a *answer) *express {
	return &express{next: next, gate: g, send: m.SendMessage, answer: a, errors: connect.NewErrorWriter(),
		limit: a.deadlines[parleyv1connect.MessageServiceSendMessageProcedure]}
}

// What connect puts on each answer; shared, since nobody changes the values of a header in place.
var (
	protoType     = []string{"application/proto"} //nolint:gochecknoglobals // never changed
	acceptsGzip   = []string{gzipName}            //nolint:gochecknoglobals // never changed
	expressBodies = sync.Pool{New: func() any { return new([]byte) }}
)

// maxTimeoutDigits is the longest Connect-Timeout-Ms that the protocol knows.
const maxTimeoutDigits = 10

// fits says whether a request may be answered here, and within what time its sender wants it answered; 0 for any.
func (e *express) fits(r *http.Request) (within time.Duration, ok bool) {
	if r.URL.Path != parleyv1connect.MessageServiceSendMessageProcedure || r.Method != http.MethodPost ||
		r.ContentLength <= 0 || r.ContentLength > MaxRequestBytes || len(r.Header["Content-Encoding"]) > 0 {
		return 0, false
	}
	if kind := r.Header["Content-Type"]; len(kind) != 1 || kind[0] != protoType[0] {
		return 0, false
	}
	if version := r.Header["Connect-Protocol-Version"]; len(version) > 1 || len(version) == 1 && version[0] != "1" {
		return 0, false
	}
	timeout := r.Header["Connect-Timeout-Ms"]
	if len(timeout) == 0 {
		return 0, true
	}
	if len(timeout) > 1 || len(timeout[0]) > maxTimeoutDigits {
		return 0, false
	}
	ms, err := strconv.ParseUint(timeout[0], 10, 63)
	return time.Duration(ms) * time.Millisecond, err == nil && ms > 0
}

func (e *express) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	within, ok := e.fits(r)
	if !ok {
		e.next.ServeHTTP(w, r)
		return
	}
	limit := e.limit
	if within > 0 {
		limit = min(limit, within)
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	p, err := e.gate.judge(ctx, parleyv1connect.MessageServiceSendMessageProcedure, r.Header)
	if err != nil {
		e.next.ServeHTTP(w, r)
		return
	}
	buf, _ := expressBodies.Get().(*[]byte)
	defer expressBodies.Put(buf)
	req := new(parleyv1.SendMessageRequest)
	if !readPlain(r, buf, req) {
		e.next.ServeHTTP(w, r)
		return
	}
	c := callFrom(ctx)
	c.procedure, c.principal = parleyv1connect.MessageServiceSendMessageProcedure, p
	res, err := e.run(WithPrincipal(ctx, p), req)
	header := w.Header()
	header["Accept-Encoding"] = acceptsGzip
	if err != nil {
		_ = e.errors.Write(w, r, err) // the caller has left
		return
	}
	if *buf, err = (proto.MarshalOptions{}).MarshalAppend((*buf)[:0], res); err != nil {
		_ = e.errors.Write(w, r, e.answer.settle(ctx, err, nil))
		return
	}
	header["Content-Type"] = protoType
	_, _ = w.Write(*buf) // the caller has left
}

// run is what the interceptors and the handler do.
func (e *express) run(ctx context.Context, req *parleyv1.SendMessageRequest) (res *parleyv1.SendMessageResponse, err error) {
	defer func() { err = e.answer.settle(ctx, err, recover()) }()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return e.send(ctx, req)
}

// readPlain reads the body into buf and decodes it. Where that fails, or what came is not plain, it puts the body back.
func readPlain(r *http.Request, buf *[]byte, req *parleyv1.SendMessageRequest) bool {
	n := int(r.ContentLength)
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	*buf = (*buf)[:n]
	got, err := io.ReadFull(r.Body, *buf)
	if err == nil {
		if err := proto.Unmarshal(*buf, req); err == nil && decoded(req) == nil && plain(req) {
			_ = r.Body.Close() // nothing is left in it, and its deadline is over
			return true
		}
	}
	r.Body = &readAgain{ReadCloser: r.Body, first: append([]byte(nil), (*buf)[:got]...), then: err}
	return false
}

// readAgain is a body of which the first bytes were read already, and perhaps an error behind them.
type readAgain struct {
	io.ReadCloser
	first []byte
	then  error
}

func (b *readAgain) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	if b.then != nil && !errors.Is(b.then, io.EOF) {
		return 0, b.then
	}
	return b.ReadCloser.Read(p)
}
