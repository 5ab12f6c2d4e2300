package rpc

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
)

// maxTranscodedBytes bounds a message that REST holds in memory. Requests are bounded by MaxRequestBytes before that; it
// is there for responses: 500 messages of 16 KiB as JSON.
const maxTranscodedBytes = 32 << 20

// newREST returns the handler of all google.api.http paths. It calls the services over Connect in this process.
func newREST(services map[string]http.Handler) (http.Handler, error) {
	var list []*vanguard.Service
	for path, h := range services {
		list = append(list, vanguard.NewService(path, h,
			vanguard.WithTargetProtocols(vanguard.ProtocolConnect),
			vanguard.WithNoTargetCompression(),
			vanguard.WithMaxMessageBufferBytes(maxTranscodedBytes)))
	}
	transcoder, err := vanguard.NewTranscoder(list,
		vanguard.WithUnknownHandler(http.HandlerFunc(notFound)),
		vanguard.WithCompression(gzipName, newGzip, newGunzip))
	if err != nil {
		return nil, fmt.Errorf("rpc: REST paths: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w = &restWriter{ResponseWriter: w, call: callFrom(r.Context())}
		if r.Method == http.MethodGet {
			tagged(transcoder, w, escaped(r))
			return
		}
		transcoder.ServeHTTP(w, escaped(r))
	}), nil
}

// escaped returns the request with its path as it came: the transcoder splits the path that it is given and decodes each
// part, so a decoded one would be decoded twice, and an id with a slash or a percent sign would become another. No path
// has a verb behind a colon, so a colon belongs to an id.
func escaped(r *http.Request) *http.Request {
	out, u := *r, *r.URL
	u.Path, u.RawPath = strings.ReplaceAll(u.EscapedPath(), ":", "%3A"), ""
	out.URL = &u
	return &out
}

// restWriter replaces the errors that the transcoder makes itself, of requests that it cannot turn into messages: their
// texts quote the request, they carry no detail, and malformed JSON would be the server's fault (500).
//
// The transcoder hands a request on as an empty message after such an error. notRefused keeps that from being executed.
type restWriter struct {
	http.ResponseWriter
	call     *call
	replaced bool
}

func (w *restWriter) WriteHeader(status int) {
	if status < http.StatusBadRequest || w.call.code != "" || w.replaced {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.replaced = true
	v := refusedAs(undecodable)
	switch status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		v = verdict{code: connect.CodeUnimplemented, text: http.StatusText(status)}
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		v, status = refusedAs(tooLarge), http.StatusTooManyRequests
	default:
		status = http.StatusBadRequest
	}
	w.call.code, w.call.reason = v.code.String(), v.reason().String()
	writeStatus(w.ResponseWriter, status, v)
}

func (w *restWriter) Write(p []byte) (int, error) {
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

func (w *restWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *restWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// notRefused fails when the call was answered already, before its handler ran.
func notRefused(ctx context.Context) error {
	if callFrom(ctx).code != "" {
		return undecodable
	}
	return nil
}
