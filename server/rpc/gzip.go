package rpc

import (
	"compress/gzip"
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

// gunzip unpacks at most MaxRequestBytes, so that a small request cannot become a large one.
type gunzip struct {
	r    gzip.Reader
	left int64
}

func (g *gunzip) Reset(r io.Reader) error {
	g.left = MaxRequestBytes
	return g.r.Reset(r)
}

func (g *gunzip) Read(p []byte) (int, error) {
	if g.left < 0 {
		return 0, refusedAs(tooLarge).wireError()
	}
	n, err := g.r.Read(p[:min(int64(len(p)), g.left+1)])
	g.left -= int64(n)
	if g.left < 0 {
		return n - 1, refusedAs(tooLarge).wireError()
	}
	return n, err
}

func (g *gunzip) Close() error { return g.r.Close() }
