package app

import (
	"context"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/grpchealth"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// maxFeedAge is how long the feed may have been silent on a node that calls itself ready.
	maxFeedAge = 10 * time.Second
	// pingPatience is how long PostgreSQL may take to answer.
	pingPatience = time.Second
	// pingMemory is how long its answer, or that there was none, is told again.
	pingMemory = 500 * time.Millisecond
)

// health tells the truth about this node: it is ready while it serves, PostgreSQL answers, and the feed is fresh. Anybody
// may ask, without a token, so however many do, PostgreSQL is asked once at a time and once in pingMemory.
type health struct {
	ping    func(context.Context) error
	feedAge func() time.Duration
	clock   clockwork.Clock
	serving atomic.Bool

	mu       sync.Mutex // held while PostgreSQL is asked
	answered time.Time  // zero: never
	answer   error
}

func newHealth(ping func(context.Context) error, feedAge func() time.Duration, clock clockwork.Clock) *health {
	return &health{ping: ping, feedAge: feedAge, clock: clock}
}

func (h *health) setServing(on bool) { h.serving.Store(on) }

// reason says why the node is not ready; empty when it is.
func (h *health) reason(ctx context.Context) string {
	if !h.serving.Load() {
		return "starting or shutting down"
	}
	if h.postgres(ctx) != nil {
		return "PostgreSQL does not answer"
	}
	if h.feedAge() > maxFeedAge {
		return "the feed is behind"
	}
	return ""
}

// postgres asks PostgreSQL, or tells what it answered lately. It takes pingPatience at most, and as long again where somebody
// else is asking.
func (h *health) postgres(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if since := h.clock.Since(h.answered); !h.answered.IsZero() && since >= 0 && since < pingMemory {
		return h.answer
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingPatience) // others go by it who do not leave
	defer cancel()
	h.answer = h.ping(ctx)
	h.answered = h.clock.Now()
	return h.answer
}

// Check implements grpchealth.Checker: all services are ready together.
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
