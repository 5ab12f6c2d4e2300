package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// MaxRequestBytes bounds a request message, both as it comes and decompressed. Larger ones are REQUEST_TOO_LARGE. Connect
// has this bound as well; it is kept here too because an error from reading the body keeps its detail.
const MaxRequestBytes = 64 << 10

// prefixBytes is what stands before each message of a gRPC call or a Connect stream: flags and a length of four bytes.
const prefixBytes = 5

// body bounds a request's body in bytes and in time. Read by one goroutine.
type body struct {
	io.ReadCloser
	call *call
	left int64 // how many more bytes may come

	// enveloped bodies announce their message's length.
	enveloped bool
	prefix    [prefixBytes]byte
	seen      int // bytes of the prefix

	control *http.ResponseController
	armed   bool // a read deadline is set
}

// newBody bounds r's body. timeout is how long it may take to arrive: without it, a client could send one byte a minute.
func newBody(r *http.Request, c *call, timeout time.Duration) *body {
	b := &body{ReadCloser: r.Body, call: c, left: MaxRequestBytes, control: http.NewResponseController(c.writer)}
	contentType := r.Header.Get("Content-Type")
	if strings.HasPrefix(contentType, "application/grpc") || strings.HasPrefix(contentType, "application/connect+") {
		b.enveloped = true
		b.left += prefixBytes
	}
	b.armed = b.control.SetReadDeadline(connDeadline(timeout)) == nil
	return b
}

func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, b.refuse(refusedAs(tooLarge))
	}
	// One byte more than allowed, to tell the end from too much.
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, b.refuse(refusedAs(tooLarge))
	}
	if b.enveloped && b.seen < prefixBytes {
		b.seen += copy(b.prefix[b.seen:], p[:n])
		if b.seen == prefixBytes && binary.BigEndian.Uint32(b.prefix[1:]) > MaxRequestBytes {
			b.left = -1
			return 0, b.refuse(refusedAs(tooLarge))
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		b.disarm()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, b.refuse(ended(context.DeadlineExceeded))
	}
	return n, err
}

// Close reads what is left, as long as the deadline holds, so that the connection can be used again.
func (b *body) Close() error {
	defer b.disarm()
	return b.ReadCloser.Close()
}

// disarm takes the deadline away once the body is there: it would end a stream.
func (b *body) disarm() {
	if b.armed {
		b.armed = b.control.SetReadDeadline(time.Time{}) != nil
	}
}

func (b *body) refuse(v verdict) error {
	b.call.code, b.call.reason = v.code.String(), v.reason().String()
	return v.wireError()
}
