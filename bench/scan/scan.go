// Package scan reads Subscribe streams as cheaply as a load generator must, which shares its processors with the server
// that it measures: it walks the encoded bytes and decodes nothing but each entry's session, seq and text.
//
// A Chunked takes the bytes of an HTTP/1.1 answer's body, an Envelopes those of any body. Both take them in pieces of any
// size and keep no more than one event of them between two pieces. Neither is safe for concurrent use.
package scan

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sink is told what a stream holds. The slices are valid during the call only.
type Sink interface {
	// Entry is a log entry; body is its text, nil where it has none.
	Entry(session []byte, seq int64, body []byte)
	// Skipped is a range of seqs that the server leaves out.
	Skipped(session []byte, from, to int64)
	// CaughtUp is the end of the backlog.
	CaughtUp()
	// Resync is the server's request to start afresh.
	Resync()
}

var (
	errTruncated  = errors.New("scan: a protobuf field does not end where its message does")
	errCompressed = errors.New("scan: the server compressed a response that it was not asked to compress")
)

// EndError is the end of a stream as the server said it.
type EndError struct{ JSON string }

func (e *EndError) Error() string { return "stream ended: " + e.JSON }

const (
	envelopeHeader  = 5
	flagCompressed  = 1
	flagEnd         = 2
	maxEnvelope     = 16 << 20
	maxEventPending = 1 << 20
)

// Envelopes scans Connect's envelopes, each holding a SubscribeResponse.
type Envelopes struct {
	Sink Sink
	// Frames counts the responses so far.
	Frames int64

	header [envelopeHeader]byte
	have   int // bytes of header
	left   int // bytes of the response that have not come yet
	end    bool
	rest   []byte // the beginning of an event
}

// Feed scans the next bytes of the body. It returns an EndError once the server has ended the stream.
func (s *Envelopes) Feed(p []byte) error {
	for len(p) > 0 {
		if s.have < envelopeHeader {
			n := copy(s.header[s.have:], p)
			s.have += n
			p = p[n:]
			if s.have < envelopeHeader {
				return nil
			}
			if err := s.begin(); err != nil {
				return err
			}
		}
		n := min(s.left, len(p))
		s.left -= n
		if err := s.payload(p[:n]); err != nil {
			return err
		}
		p = p[n:]
		if s.left == 0 {
			s.have = 0
		}
	}
	return nil
}

func (s *Envelopes) begin() error {
	size := binary.BigEndian.Uint32(s.header[1:])
	if s.header[0]&flagCompressed != 0 {
		return errCompressed
	}
	if size > maxEnvelope {
		return fmt.Errorf("scan: a response of %d bytes", size)
	}
	s.left, s.end = int(size), s.header[0]&flagEnd != 0
	if !s.end {
		s.Frames++
	}
	return nil
}

// payload scans a piece of a response; s.left says how much of it is to come.
func (s *Envelopes) payload(p []byte) error {
	if s.end {
		s.rest = append(s.rest, p...)
		if s.left == 0 {
			return &EndError{JSON: string(s.rest)}
		}
		return nil
	}
	if len(s.rest) > 0 {
		s.rest = append(s.rest, p...)
		p = s.rest
	}
	rest, err := s.events(p)
	if err != nil {
		return err
	}
	if len(rest) > maxEventPending || (s.left == 0 && len(rest) > 0) {
		return errTruncated
	}
	if len(rest) == 0 {
		s.rest = s.rest[:0]
		return nil
	}
	s.rest = append(s.rest[:0], rest...)
	return nil
}

// events scans the whole events at the beginning of p and returns what follows them.
func (s *Envelopes) events(p []byte) ([]byte, error) {
	for len(p) > 0 {
		if p[0] != tag(1, lenType) {
			return nil, fmt.Errorf("scan: unknown field (tag %#x) in a response", p[0])
		}
		size, n := uvarint(p[1:])
		if n < 0 {
			return nil, errTruncated
		}
		if n == 0 || uint64(len(p)-1-n) < size { //nolint:gosec // not negative
			return p, nil
		}
		begin := 1 + n
		end := begin + int(size) //nolint:gosec // not more than len(p)
		if err := s.event(p[begin:end]); err != nil {
			return nil, err
		}
		p = p[end:]
	}
	return nil, nil
}

// event scans an Event, whose numbers are those of event.proto.
func (s *Envelopes) event(p []byte) error {
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		p = rest
		switch f.number {
		case 1:
			err = s.message(f.bytes)
		case 6:
			s.Sink.CaughtUp()
		case 7:
			s.Sink.Resync()
		case 9:
			err = s.skipped(f.bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// message scans a Message: session_id 1, seq 2, content 7.
func (s *Envelopes) message(p []byte) error {
	var session, body []byte
	var seq int64
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		p = rest
		switch f.number {
		case 1:
			session = f.bytes
		case 2:
			seq = int64(f.value) //nolint:gosec // an int64 on the wire
		case 7:
			if body, err = text(f.bytes); err != nil {
				return err
			}
		}
	}
	s.Sink.Entry(session, seq, body)
	return nil
}

// text returns Content.text.body, nil where the content is something else.
func text(p []byte) ([]byte, error) {
	for range 2 { // text is field 1 of Content, body is field 1 of Text
		if len(p) == 0 || p[0] != tag(1, lenType) {
			return nil, nil
		}
		f, _, err := next(p)
		if err != nil {
			return nil, err
		}
		p = f.bytes
	}
	return p, nil
}

// skipped scans a Skipped: session_id 1, from_seq 2, to_seq 3.
func (s *Envelopes) skipped(p []byte) error {
	var session []byte
	var from, to int64
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		p = rest
		switch f.number {
		case 1:
			session = f.bytes
		case 2:
			from = int64(f.value) //nolint:gosec // an int64 on the wire
		case 3:
			to = int64(f.value) //nolint:gosec // an int64 on the wire
		}
	}
	s.Sink.Skipped(session, from, to)
	return nil
}
