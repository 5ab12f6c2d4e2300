package scan

import (
	"errors"
	"fmt"
)

var errChunk = errors.New("scan: not a chunked body")

// Chunked scans a body in HTTP/1.1's chunked encoding.
type Chunked struct {
	Envelopes

	state chunkState
	size  int // of the chunk: while its size is read, and then what is left of it
}

type chunkState uint8

const (
	inSize    chunkState = iota // hexadecimal digits
	inSizeEnd                   // what follows them up to the end of the line
	inData
	inDataEnd // the line break after the data
)

// ErrBodyEnd says that the body ended without the stream's own end.
var ErrBodyEnd = errors.New("scan: the body ended before the stream did")

// Feed scans the next bytes of the body as they came.
func (c *Chunked) Feed(p []byte) error {
	for len(p) > 0 {
		if c.state == inData {
			n := min(c.size, len(p))
			if err := c.Envelopes.Feed(p[:n]); err != nil {
				return err
			}
			c.size -= n
			p = p[n:]
			if c.size == 0 {
				c.state = inDataEnd
			}
			continue
		}
		if err := c.frame(p[0]); err != nil {
			return err
		}
		p = p[1:]
	}
	return nil
}

// frame takes one byte of what is around the data.
func (c *Chunked) frame(b byte) error {
	switch c.state {
	case inSize:
		switch {
		case b >= '0' && b <= '9':
			c.size = c.size<<4 | int(b-'0')
		case b >= 'a' && b <= 'f':
			c.size = c.size<<4 | int(b-'a'+10)
		case b >= 'A' && b <= 'F':
			c.size = c.size<<4 | int(b-'A'+10)
		case b == '\r' || b == ';':
			c.state = inSizeEnd
		default:
			return fmt.Errorf("%w: %q in the size of a chunk", errChunk, b)
		}
		if c.size > maxEnvelope {
			return fmt.Errorf("%w: a chunk of %d bytes", errChunk, c.size)
		}
	case inSizeEnd:
		if b == '\n' {
			if c.size == 0 {
				return ErrBodyEnd
			}
			c.state = inData
		}
	case inDataEnd:
		if b == '\n' {
			c.state = inSize
		} else if b != '\r' {
			return fmt.Errorf("%w: %q after a chunk", errChunk, b)
		}
	case inData: // Feed takes those
	}
	return nil
}
