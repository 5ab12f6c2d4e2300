// Package limit has the bare programs that Parley is compared with, each doing only what cannot be left out: writing the
// same bytes to as many sockets, holding as many streams, inserting and reading the same rows.
//
// The servers run as processes of their own (Serve), as Parley does, and are driven over standard input: a line is an
// order. They end with it.
package limit

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parley-im/parley/bench/latency"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// FanSession is the session whose entries the bare server writes.
const FanSession = "0190a5d2-7c55-7b3e-9d3c-0f4b1d2c3e4f"

// ServeFan is a bare TCP server. To each connection it answers a request with the head of a stream and CaughtUp; each
// order "COUNT NANOSECONDS" makes it write a response with that many entries, stamped with that time, to every
// connection. An entry is what Parley's is, byte for byte but for the ids. It says its address on out.
func ServeFan(ctx context.Context, in io.Reader, out io.Writer) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f := &fan{orders: make([]chan order, runtime.GOMAXPROCS(0)), conns: make([]share, runtime.GOMAXPROCS(0))}
	var work sync.WaitGroup
	for i := range f.orders {
		f.orders[i] = make(chan order, 1024)
		work.Go(func() { f.write(i) })
	}
	work.Go(func() { f.accept(ln) })
	fmt.Fprintln(out, ln.Addr())
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var o order
		if _, err := fmt.Sscan(lines.Text(), &o.count, &o.stamp); err != nil {
			return fmt.Errorf("order %q: %w", lines.Text(), err)
		}
		for _, c := range f.orders {
			c <- o
		}
	}
	for _, c := range f.orders {
		close(c)
	}
	err = ln.Close()
	work.Wait()
	return err
}

type order struct {
	count int
	stamp int64
}

// fan has a writer per processor, each with a share of the connections.
type fan struct {
	orders []chan order
	conns  []share
}

type share struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (f *fan) accept(ln net.Listener) {
	var at atomic.Int64
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		s := &f.conns[int(at.Add(1))%len(f.conns)]
		go func() {
			if err := s.greet(conn); err != nil {
				_ = conn.Close() // it has failed already
			}
		}()
	}
}

// greet answers a Subscribe call. The connection joins the share before its client knows, so that it misses nothing.
func (s *share) greet(conn net.Conn) error {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/connect+proto\r\nTransfer-Encoding: chunked\r\n\r\n")
	if err != nil {
		return err
	}
	if _, err := conn.Write(chunk(nil, caughtUp())); err != nil {
		return err
	}
	s.conns = append(s.conns, conn)
	return nil
}

func caughtUp() *parleyv1.SubscribeResponse {
	return &parleyv1.SubscribeResponse{Events: []*parleyv1.Event{{Kind: &parleyv1.Event_CaughtUp{CaughtUp: &parleyv1.CaughtUp{}}}}}
}

func (f *fan) write(i int) {
	var seq int64
	var buf []byte
	body := []byte(strings.Repeat("x", bodyBytes))
	for o := range f.orders[i] {
		res := &parleyv1.SubscribeResponse{}
		stamp := latency.AppendStamp(nil, time.Unix(0, o.stamp))
		for range o.count {
			seq++
			res.Events = append(res.Events, &parleyv1.Event{Kind: &parleyv1.Event_Message{Message: entry(seq, stamp, body)}})
		}
		buf = chunk(buf[:0], res)
		s := &f.conns[i]
		s.mu.Lock()
		for _, conn := range s.conns {
			_, _ = conn.Write(buf) // one that has gone is missed by the reader
		}
		s.mu.Unlock()
	}
	for _, conn := range f.conns[i].conns {
		_ = conn.Close() // all is written
	}
}

// bodyBytes is the length of a message's text.
const bodyBytes = 100

func entry(seq int64, stamp, body []byte) *parleyv1.Message {
	copy(body, stamp)
	return &parleyv1.Message{SessionId: FanSession, Seq: seq, MessageId: uuid.NewString(), SenderId: "bench-000000-w2-1000-s0",
		SenderDeviceId: "d0", Type: parleyv1.MessageType_MESSAGE_TYPE_TEXT, CreatedAt: timestamppb.Now(),
		Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: string(body)}}}}
}

// chunk appends a response as a chunk with an envelope.
func chunk(b []byte, res *parleyv1.SubscribeResponse) []byte {
	raw := enveloped(res)
	b = fmt.Appendf(b, "%x\r\n", len(raw))
	return append(append(b, raw...), "\r\n"...)
}

// enveloped returns a response as Connect frames it.
func enveloped(res *parleyv1.SubscribeResponse) []byte {
	n := proto.Size(res)
	b := make([]byte, 0, n+5)
	b = append(b, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)) //nolint:gosec // a length in big-endian
	b, err := (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(b, res)
	if err != nil {
		return nil // only invalid UTF-8 fails
	}
	return b
}
