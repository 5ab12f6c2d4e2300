package rpc

import (
	"io"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// fallback answers what no call's path matched: with a page where there is one, else with 404 in the form that the
// client expects.
func fallback(pages http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isCall := strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/parley.")
		if pages != nil && !isCall && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			pages.ServeHTTP(w, r)
			return
		}
		notFound(w, r)
	})
}

const nothingHere = "There is nothing at this path."

// notFound answers 404 as JSON: as REST's errors below /v1/, as Connect's elsewhere.
func notFound(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		writeStatus(w, http.StatusNotFound, verdict{code: connect.CodeNotFound, text: nothingHere})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, `{"code":"`+connect.CodeUnimplemented.String()+`","message":"`+nothingHere+`"}`)
}

// writeStatus writes an error as REST has them.
func writeStatus(w http.ResponseWriter, status int, v verdict) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Del("Content-Length")
	w.WriteHeader(status)
	_, _ = w.Write(statusJSON(v)) //nolint:gosec // JSON, and declared as such
}

// statusJSON is an error as google.rpc.Status in JSON, on one line.
func statusJSON(v verdict) []byte {
	status := &spb.Status{Code: int32(v.code), Message: v.text} //nolint:gosec // at most 16
	if v.detail != nil {
		if detail, err := anypb.New(v.detail); err == nil {
			status.Details = append(status.Details, detail)
		}
	}
	if after := v.retryAfter(); after > 0 {
		if detail, err := anypb.New(retryInfo(after)); err == nil {
			status.Details = append(status.Details, detail)
		}
	}
	raw, err := protojson.Marshal(status)
	if err != nil { // texts and metadata are valid UTF-8
		return []byte(`{"code":13,"message":"internal error"}`)
	}
	return raw
}
