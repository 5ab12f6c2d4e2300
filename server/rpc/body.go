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

// compressedFlag is the only flag of a request's message.
const compressedFlag = 1

// body bounds a request's body in bytes and in time. Read by one goroutine.
type body struct {
	io.ReadCloser
	call *call
	left int64 // how many more bytes may come; negative once the body is refused
	// broken is what the body is refused as.
	broken verdict

	// enveloped bodies announce their message's length; each holds exactly one message, since no rpc takes a stream.
	enveloped  bool
	mayZip     bool // the header names how compressed messages are compressed
	prefix     [prefixBytes]byte
	seen       int   // bytes of the prefix
	unreceived int64 // bytes of the message that are to come; counted once the prefix is there

	control *http.ResponseController
	armed   bool // a read deadline is set
}

// newBody bounds r's body. timeout is how long it may take to arrive: without it, a client could send one byte a minute.
func newBody(r *http.Request, c *call, timeout time.Duration) *body {
	b := &body{ReadCloser: r.Body, call: c, left: MaxRequestBytes, broken: refusedAs(tooLarge), control: http.NewResponseController(c.writer)}
	if enveloped(r) {
		b.enveloped = true
		b.mayZip = named(r.Header.Get("Grpc-Encoding")) || named(r.Header.Get("Connect-Content-Encoding"))
		b.left += prefixBytes
	}
	b.armed = b.control.SetReadDeadline(connDeadline(timeout)) == nil
	return b
}

func (b *body) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, b.refuse(b.broken)
	}
	// One byte more than allowed, to tell the end from too much.
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, b.refuse(refusedAs(tooLarge))
	}
	if b.enveloped {
		if v, bad := b.envelope(p[:n], errors.Is(err, io.EOF)); bad {
			b.left, b.broken = -1, v
			return 0, b.refuse(v)
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

// enveloped reports whether each message of the request has a prefix.
func enveloped(r *http.Request) bool {
	contentType := r.Header.Get("Content-Type")
	return strings.HasPrefix(contentType, "application/grpc") || strings.HasPrefix(contentType, "application/connect+")
}

// envelope takes what was read and judges it as far as that goes: one message, as long as announced, with flags that mean
// something. Connect would refuse the same as faults of the server, without a detail.
func (b *body) envelope(read []byte, end bool) (verdict, bool) {
	if b.seen < prefixBytes {
		n := copy(b.prefix[b.seen:], read)
		b.seen += n
		read = read[n:]
		if b.seen == prefixBytes {
			b.unreceived = int64(binary.BigEndian.Uint32(b.prefix[1:]))
			if b.unreceived > MaxRequestBytes {
				return refusedAs(tooLarge), true
			}
			if flags := b.prefix[0]; flags > compressedFlag || flags == compressedFlag && !b.mayZip {
				return refusedAs(undecodable), true
			}
		}
	}
	b.unreceived -= int64(len(read))
	return refusedAs(undecodable), b.unreceived < 0 || end && (b.seen < prefixBytes || b.unreceived > 0)
}

// named reports whether a header names a compression.
func named(encoding string) bool { return encoding != "" && encoding != "identity" }

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
