package rpc

import (
	"net/http"

	"connectrpc.com/connect"
)

// jwksPattern is where others who verify Parley's tokens look for its public keys (RFC 8615).
const jwksPattern = "GET /.well-known/jwks.json"

// jwksMaxAge is how long others may keep the keys, in seconds: less than auth.SigningDelay, so that whoever reads the set
// again when its time is over knows a key before a token needs it.
const jwksMaxAge = "30"

// KeyPublisher has the public halves of signing keys.
type KeyPublisher interface {
	// PublicSet returns them as a JWKS document. It fails while they cannot be had. Safe for concurrent use.
	PublicSet() ([]byte, error)
}

// publicKeys serves the document, 404 where there are no signing keys, and 503 while they cannot be had. It needs no
// token: what it tells is public.
func publicKeys(from KeyPublisher) http.Handler {
	if from == nil {
		return http.HandlerFunc(notFound)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set, err := from.PublicSet()
		if err != nil {
			callFrom(r.Context()).code = connect.CodeUnavailable.String()
			writeStatus(w, http.StatusServiceUnavailable,
				verdict{code: connect.CodeUnavailable, text: "The keys cannot be had right now."})
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "public, max-age="+jwksMaxAge)
		_, _ = w.Write(set)
	})
}
