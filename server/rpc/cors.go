package rpc

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"
)

// preflightAge is how long a browser may keep the answer to a preflight request.
const preflightAge = 2 * time.Hour

// checkOrigins refuses what a browser never sends as Origin, wildcards among it: they would match nothing, or too much.
func checkOrigins(origins []string) error {
	for _, o := range origins {
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != o ||
			strings.Contains(o, "*") {
			return fmt.Errorf("rpc: %q is no origin such as https://chat.example (scheme and host, nothing behind them)", o)
		}
	}
	return nil
}

// withCORS lets pages of the given origins call. Origins are compared whole; there is no wildcard. Credentials are not
// allowed: tokens travel in a header, never in cookies.
func withCORS(next http.Handler, origins []string) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: append(connectcors.AllowedMethods(), http.MethodPut, http.MethodPatch, http.MethodDelete),
		AllowedHeaders: append(connectcors.AllowedHeaders(), "Authorization", lastEventID, "If-None-Match"),
		ExposedHeaders: append(connectcors.ExposedHeaders(), RequestIDHeader, "Retry-After", "ETag"),
		MaxAge:         int(preflightAge.Seconds()),
	}).Handler(next)
}
