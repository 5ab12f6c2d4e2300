package rpc

import (
	"net/http"
	"time"

	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"
)

// preflightAge is how long a browser may keep the answer to a preflight request.
const preflightAge = 2 * time.Hour

// withCORS lets pages of the given origins call. Origins are compared whole; there is no wildcard. Credentials are not
// allowed: tokens travel in a header, never in cookies.
func withCORS(next http.Handler, origins []string) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: append(connectcors.AllowedMethods(), http.MethodPut, http.MethodPatch, http.MethodDelete),
		AllowedHeaders: append(connectcors.AllowedHeaders(), "Authorization", lastEventID),
		ExposedHeaders: append(connectcors.ExposedHeaders(), RequestIDHeader),
		MaxAge:         int(preflightAge.Seconds()),
	}).Handler(next)
}
