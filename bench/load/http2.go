package load

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/parley-im/parley/bench/scan"
)

const (
	h2Stream = 1
	// h2Window is the receive window of the stream; the connection's is 64 kB, so both are given back as data comes.
	h2Window = 1 << 20
)

// startHTTP2 sends the request over HTTP/2 without TLS on a connection of its own, as gRPC clients do.
func (s *Stream) startHTTP2(o Options, body []byte, d Device) (func() error, error) {
	if _, err := io.WriteString(s.conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	f := http2.NewFramer(s.conn, s.conn)
	f.SetReuseFrames()
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var head headBlock
	head.init()
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":authority", o.Addr}, {":path", "/parley.v1.SyncService/Subscribe"},
		{"content-type", "application/connect+proto"}, {"connect-protocol-version", "1"}, {"authorization", "Bearer " + o.Token},
	} {
		head.add(h[0], h[1])
	}
	err := errors.Join(
		f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2Window}),
		f.WriteWindowUpdate(0, h2Window),
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: h2Stream, BlockFragment: head.bytes, EndHeaders: true}),
		f.WriteData(h2Stream, true, body))
	if err != nil {
		return nil, err
	}
	r := &h2Reader{s: s, f: f, scan: scan.Envelopes{Sink: d}}
	for !r.answered {
		if err := r.frame(); err != nil {
			return nil, err
		}
	}
	return func() error {
		for {
			if err := r.frame(); err != nil {
				return err
			}
		}
	}, nil
}

// headBlock is an encoded list of header fields.
type headBlock struct {
	bytes []byte
	enc   *hpack.Encoder
}

func (h *headBlock) init() { h.enc = hpack.NewEncoder(h) }

func (h *headBlock) Write(p []byte) (int, error) {
	h.bytes = append(h.bytes, p...)
	return len(p), nil
}

func (h *headBlock) add(name, value string) {
	_ = h.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // Write does not fail
}

// h2Reader reads the frames of one connection, which has one stream.
type h2Reader struct {
	s        *Stream
	f        *http2.Framer
	scan     scan.Envelopes
	answered bool
}

func (r *h2Reader) frame() error {
	frame, err := r.f.ReadFrame()
	if err != nil {
		return err
	}
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return r.f.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return r.f.WritePing(true, f.Data)
		}
	case *http2.MetaHeadersFrame:
		if status := f.PseudoValue("status"); !r.answered && status != "200" {
			return fmt.Errorf("HTTP status %s", status)
		}
		r.answered = true
	case *http2.DataFrame:
		return r.data(f)
	case *http2.RSTStreamFrame:
		return fmt.Errorf("the server reset the stream: %s", f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server is going away: %s", f.ErrCode)
	}
	return nil
}

func (r *h2Reader) data(f *http2.DataFrame) error {
	n := len(f.Data())
	r.s.bytes.Add(int64(n))
	if err := r.scan.Feed(f.Data()); err != nil {
		return err
	}
	r.s.frames.Store(r.scan.Frames)
	if n == 0 {
		return nil
	}
	return errors.Join(r.f.WriteWindowUpdate(0, uint32(n)), r.f.WriteWindowUpdate(h2Stream, uint32(n))) //nolint:gosec // a frame's length
}
