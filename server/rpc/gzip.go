package rpc

import (
	"compress/gzip"
	"errors"
	"io"

	"connectrpc.com/connect"
)

// From which size on messages are compressed, in bytes. gzip costs 15 µs however small the message is (measured), and a
// stream's frame is compressed for each of its receivers anew: there it is for backlog, not for live events.
const (
	compressUnaryFrom = 1 << 10
	compressFrameFrom = 16 << 10
)

const gzipName = "gzip"

func compression() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCompression(gzipName, newGunzip, newGzip),
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			if spec.StreamType == connect.StreamTypeUnary {
				return []connect.HandlerOption{connect.WithCompressMinBytes(compressUnaryFrom)}
			}
			return []connect.HandlerOption{connect.WithCompressMinBytes(compressFrameFrom)}
		}),
	)
}

func newGzip() connect.Compressor     { return gzip.NewWriter(io.Discard) }
func newGunzip() connect.Decompressor { return &gunzip{} }

// gunzip unpacks at most MaxRequestBytes, so that a small request cannot become a large one. What it cannot unpack it
// refuses when it is read, since only an error of Read keeps its detail.
type gunzip struct {
	r    gzip.Reader
	left int64
	bad  bool // the stream has no gzip header
}

func (g *gunzip) Reset(r io.Reader) error {
	g.left = MaxRequestBytes
	g.bad = g.r.Reset(r) != nil
	return nil
}

func (g *gunzip) Read(p []byte) (int, error) {
	if g.bad {
		return 0, refusedAs(undecodable).wireError()
	}
	if g.left < 0 {
		return 0, refusedAs(tooLarge).wireError()
	}
	n, err := g.r.Read(p[:min(int64(len(p)), g.left+1)])
	g.left -= int64(n)
	if g.left < 0 {
		return n - 1, refusedAs(tooLarge).wireError()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, refusedAs(undecodable).wireError()
	}
	return n, err
}

func (g *gunzip) Close() error { return nil } // nothing to free; a reader that never had a header cannot be closed
