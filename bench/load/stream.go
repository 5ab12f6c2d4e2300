package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-im/parley/bench/scan"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Device is what a stream is read for.
type Device interface {
	scan.Sink
	// Failed is told why a stream ended that was not closed.
	Failed(err error)
}

// Stream is a Subscribe call on a connection of its own. Its device is called by one goroutine only.
type Stream struct {
	conn   net.Conn
	closed atomic.Bool
	done   chan struct{}
	bytes  atomic.Int64
	frames atomic.Int64
}

// Options say how a stream connects.
type Options struct {
	Addr  string
	Token string
	// Index spreads connections over the loopback's addresses, each of which has ports of its own.
	Index int
	HTTP2 bool
}

// sources is how many addresses of the loopback the streams come from.
const sources = 8

// pieces are buffers to read into. A stream holds one only while it has something to read, so that ten thousand idle
// streams hold none.
var pieces = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// Open starts a stream. It returns when the server has answered, before the backlog. ctx bounds only that.
func Open(ctx context.Context, o Options, req *parleyv1.SubscribeRequest, d Device) (*Stream, error) {
	conn, err := dial(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &Stream{conn: conn, done: make(chan struct{})}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(CallTimeout)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	read, err := s.start(o, req, d)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe: %w", err), conn.Close())
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go func() {
		defer close(s.done)
		if err := read(); !s.closed.Load() {
			d.Failed(err)
		}
	}()
	return s, nil
}

func dial(ctx context.Context, o Options) (net.Conn, error) {
	var dialer net.Dialer
	if host, _, err := net.SplitHostPort(o.Addr); err == nil && net.ParseIP(host).Equal(net.IPv4(127, 0, 0, 1)) {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+o.Index%sources))} //nolint:gosec // at most sources
	}
	return dialer.DialContext(ctx, "tcp", o.Addr)
}

// start sends the request and returns what reads the answer's body.
func (s *Stream) start(o Options, req *parleyv1.SubscribeRequest, d Device) (func() error, error) {
	raw, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(raw))) //nolint:gosec // a request
	body = append(body, raw...)
	if o.HTTP2 {
		return s.startHTTP2(o, body, d)
	}
	head := appendHead(nil, "application/connect+proto", o.Token, "SyncService/Subscribe", o.Addr, len(body))
	if _, err := s.conn.Write(append(head, body...)); err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(s.conn, 2<<10)
	status, length, err := readHead(br)
	if err != nil {
		return nil, err
	}
	if status != 200 {
		text, _ := io.ReadAll(io.LimitReader(br, int64(max(length, 0)))) // only to say more
		return nil, &RefusedError{Status: status, Body: string(text)}
	}
	if length != chunked {
		return nil, errors.New("the answer is no stream")
	}
	c := &scan.Chunked{Envelopes: scan.Envelopes{Sink: d}}
	first, err := br.Peek(br.Buffered())
	if err != nil {
		return nil, err
	}
	first = bytes.Clone(first)
	return func() error {
		s.bytes.Add(int64(len(first)))
		if err := c.Feed(first); err != nil {
			return err
		}
		first, br = nil, nil
		return s.read(c)
	}, nil
}

// read reads until the stream ends, with a buffer only while there is something to read.
func (s *Stream) read(c *scan.Chunked) error {
	tcp, ok := s.conn.(*net.TCPConn)
	if !ok {
		return errors.New("not a TCP connection")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var feedErr error
	// The callback returns false to wait for more. It does so after a short read too, which took all there was: what comes
	// later wakes it again. That saves every other system call.
	err = raw.Read(func(fd uintptr) bool {
		piece := pieces.Get().(*[]byte) //nolint:errcheck,forcetypeassert // nothing else is put there
		defer pieces.Put(piece)
		for {
			n, err := syscall.Read(int(fd), *piece)
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return false
			case errors.Is(err, syscall.EINTR):
				continue
			case err != nil:
				feedErr = err
			case n == 0:
				feedErr = io.ErrUnexpectedEOF
			default:
				s.bytes.Add(int64(n))
				feedErr = c.Feed((*piece)[:n])
				s.frames.Store(c.Frames)
			}
			if feedErr != nil {
				return true
			}
			if n < len(*piece) {
				return false
			}
		}
	})
	return errors.Join(feedErr, err)
}

// Close ends the stream and waits until its device is called no more.
func (s *Stream) Close() {
	s.closed.Store(true)
	_ = s.conn.Close() // ends the reader
	<-s.done
}

// Bytes is how many bytes of the body came, framing included.
func (s *Stream) Bytes() int64 { return s.bytes.Load() }

// Frames is how many responses came.
func (s *Stream) Frames() int64 { return s.frames.Load() }
