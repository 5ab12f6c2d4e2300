// Package load is the client side of the bench: calls and streams over Parley's public API (Connect over HTTP/1.1, and
// HTTP/2 for streams), with framing of its own, since the generator shares the machine with what it measures.
//
// A Caller is one connection for unary calls and belongs to one goroutine at a time. A Stream is one Subscribe call on a
// connection of its own, read by a goroutine that Open starts and Close waits for.
package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

// CallTimeout is how long a call may take before it counts as failed.
const CallTimeout = 30 * time.Second

// Caller makes unary calls, one after the other, over one connection that it keeps.
type Caller struct {
	addr string
	conn net.Conn
	br   *bufio.Reader
	out  []byte
	body []byte
}

// NewCaller returns a caller of the server at addr (host:port). It connects with the first call.
func NewCaller(addr string) *Caller { return &Caller{addr: addr} }

// Close closes the connection.
func (c *Caller) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is under way
		c.conn = nil
	}
}

// Call calls a procedure, such as "MessageService/SendMessage", with a token as bearer. After an error the connection is
// made anew. Nothing is repeated: a failed operation counts as one.
func (c *Caller) Call(ctx context.Context, token, procedure string, req, res proto.Message) error {
	if c.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.addr)
		if err != nil {
			return err
		}
		c.conn = conn
		c.br = bufio.NewReaderSize(conn, 8<<10)
	}
	err := c.call(token, procedure, req, res)
	var refused *RefusedError
	if err != nil && !errors.As(err, &refused) {
		c.Close()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", procedure, err)
	}
	return nil
}

func (c *Caller) call(token, procedure string, req, res proto.Message) (err error) {
	size := proto.Size(req)
	c.out = appendHead(c.out[:0], "application/proto", token, procedure, c.addr, size)
	if c.out, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(c.out, req); err != nil {
		return err
	}
	if err := c.conn.SetDeadline(time.Now().Add(CallTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	status, length, err := readHead(c.br)
	if err != nil {
		return err
	}
	if err := c.readBody(length); err != nil {
		return err
	}
	if status != 200 {
		return &RefusedError{Status: status, Body: string(c.body)}
	}
	return proto.Unmarshal(c.body, res)
}

// RefusedError is an answer other than 200.
type RefusedError struct {
	Status int
	Body   string // Connect's error as JSON
}

func (e *RefusedError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.Status, e.Body) }

func appendHead(b []byte, contentType, token, procedure, host string, size int) []byte {
	b = append(append(b, "POST /parley.v1."...), procedure...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), host...)
	b = append(append(b, "\r\nContent-Type: "...), contentType...)
	b = append(append(b, "\r\nConnect-Protocol-Version: 1\r\nAuthorization: Bearer "...), token...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(size), 10)
	return append(b, "\r\n\r\n"...)
}

// chunked is the length of a body in chunks.
const chunked = -1

// readHead reads the head of an answer.
func readHead(br *bufio.Reader) (status, length int, err error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("not an answer of HTTP/1.1: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("not an answer of HTTP/1.1: %q", line)
	}
	for {
		if line, err = br.ReadSlice('\n'); err != nil {
			return 0, 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return status, length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, 0, fmt.Errorf("content length %q", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = chunked
		}
	}
}

func (c *Caller) readBody(length int) error {
	c.body = c.body[:0]
	if length != chunked {
		return c.readN(length)
	}
	for {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(line)), 16, 31)
		if err != nil {
			return fmt.Errorf("size of a chunk: %w", err)
		}
		if err := c.readN(int(n)); err != nil {
			return err
		}
		if _, err := c.br.Discard(len("\r\n")); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// maxBody bounds an answer.
const maxBody = 64 << 20

// readN appends n bytes to the body.
func (c *Caller) readN(n int) error {
	at := len(c.body)
	if n < 0 || at+n > maxBody {
		return fmt.Errorf("an answer of more than %d bytes", maxBody)
	}
	if cap(c.body) < at+n {
		c.body = append(make([]byte, 0, 2*(at+n)), c.body...)
	}
	c.body = c.body[:at+n]
	_, err := io.ReadFull(c.br, c.body[at:])
	return err
}
