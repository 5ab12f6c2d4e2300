package rpc

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds of a connection. There is no Read- or WriteTimeout: they would span a whole stream and cut it. Instead the body
// has a deadline of its own (body.go), and so has each write to a stream.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second
	// MaxHeaderBytes bounds the headers of a request, counted by headerBytes: more are answered by 431.
	MaxHeaderBytes = 16 << 10
	// maxHeaderRead is past what net/http reads no further. It counts in another way, with the request's line, path and host,
	// so it leaves room for those.
	maxHeaderRead = MaxHeaderBytes + 4<<10
	// MaxConcurrentStreams is how many calls an HTTP/2 connection may carry at once: a proxy in front of many devices
	// needs more than the 250 that net/http allows.
	MaxConcurrentStreams = 1000
	// pingAfter and pingTimeout find HTTP/2 peers that are gone without a word.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	// stuckWrite closes an HTTP/2 connection that takes no bytes although there are some to send. A stream that is not read
	// while others of its connection are is ended by its own write deadline.
	stuckWrite = 15 * time.Second
	// What an HTTP/2 peer may send ahead of being read, in bytes: no request is larger than MaxRequestBytes.
	maxAheadStream = 2 * MaxRequestBytes
	maxAheadConn   = 1 << 20
	maxFrameBytes  = 16 << 10 // the least that the protocol has
	maxHeaderTable = 4 << 10  // the protocol's default
)

// realNow is for what has nothing to do with the domain's time: how long calls take, and deadlines of connections.
func realNow() time.Time { return time.Now() } //nolint:forbidigo // as said

// connDeadline is a deadline for a connection's reads or writes, which the kernel's clock decides.
func connDeadline(after time.Duration) time.Time { return realNow().Add(after) }

// NewHTTPServer returns a server for the handler that speaks HTTP/1.1 and HTTP/2, the latter without TLS when certs is
// nil (h2c with prior knowledge, as gRPC and proxies use it). Call Serve, or ServeTLS with empty file names. base is the
// context that all requests inherit from.
func NewHTTPServer(base context.Context, h http.Handler, certs *Certificates, log *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderRead,
		Protocols:         &protocols,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: MaxConcurrentStreams, SendPingTimeout: pingAfter,
			PingTimeout: pingTimeout, WriteByteTimeout: stuckWrite, MaxReceiveBufferPerStream: maxAheadStream,
			MaxReceiveBufferPerConnection: maxAheadConn, MaxReadFrameSize: maxFrameBytes,
			MaxDecoderHeaderTableSize: maxHeaderTable, MaxEncoderHeaderTableSize: maxHeaderTable},
		// What net/http complains about is caused by clients: broken handshakes, resets.
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return base },
	}
	if certs == nil {
		protocols.SetUnencryptedHTTP2(true)
		return s
	}
	protocols.SetHTTP2(true)
	s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.Get}
	return s
}
