package app

import (
	"context"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"connectrpc.com/grpchealth"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parley-im/parley/server/feed"
)

// maxFeedAge is how long the feed may have been silent on a node that calls itself ready.
const maxFeedAge = 10 * time.Second

// health tells the truth about this node: it is ready while it serves, PostgreSQL answers, and the feed is fresh.
type health struct {
	pool    *pgxpool.Pool
	feed    *feed.Feed
	clock   clockwork.Clock
	serving atomic.Bool
}

func newHealth(pool *pgxpool.Pool, f *feed.Feed, clock clockwork.Clock) *health {
	return &health{pool: pool, feed: f, clock: clock}
}

func (h *health) setServing(on bool) { h.serving.Store(on) }

// reason says why the node is not ready; empty when it is.
func (h *health) reason(ctx context.Context) string {
	if !h.serving.Load() {
		return "starting or shutting down"
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if h.pool.Ping(ctx) != nil {
		return "PostgreSQL does not answer"
	}
	if h.feed.Age() > maxFeedAge {
		return "the feed is behind"
	}
	return ""
}

// Check implements grpchealth.Checker: the whole server, or any of its services, which are ready together.
func (h *health) Check(ctx context.Context, _ *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	status := grpchealth.StatusServing
	if h.reason(ctx) != "" {
		status = grpchealth.StatusNotServing
	}
	return &grpchealth.CheckResponse{Status: status}, nil
}

// handler serves what is for operators only. relations reports on the relation map; nil: none is kept.
func (h *health) handler(reg *prometheus.Registry, relations http.Handler) http.Handler {
	mux := http.NewServeMux()
	if relations != nil {
		mux.Handle("GET /debug/roster", relations)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if why := h.reason(r.Context()); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("GET /debug/contention", &contention{clock: h.clock})
	return mux
}
