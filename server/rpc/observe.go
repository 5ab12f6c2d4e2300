package rpc

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// observer logs and counts calls. It never sees a message. Safe for concurrent use.
type observer struct {
	log      *slog.Logger
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec

	// While a store is away every call meets it: its cause is logged once a second, and how often it was not.
	lastUnavailable atomic.Int64 // Unix seconds
	skipped         atomic.Int64
}

var silent = newObserver(slog.New(slog.DiscardHandler), nil)

// newObserver registers the metrics of calls; reg may be nil.
func newObserver(log *slog.Logger, reg prometheus.Registerer) *observer {
	o := &observer{log: log,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_calls_total",
			Help: "Calls and streams that ended, by procedure and code; unread: the request could not be read."},
			[]string{"procedure", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "parley_call_seconds",
			Help:    "Duration of unary calls by procedure.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}},
			[]string{"procedure"}),
	}
	if reg != nil {
		reg.MustRegister(o.calls, o.duration)
	}
	return o
}

// judged logs what a call's error says about the server.
func (o *observer) judged(ctx context.Context, c *call, v verdict, err error) {
	switch {
	case v.fault:
		o.fault(ctx, c, err)
	case v.reason() == parleyv1.ErrorReason_ERROR_REASON_UNAVAILABLE:
		o.unavailable(ctx, c, err)
	}
}

// fault logs an error that the caller learns nothing about, whole and once.
func (o *observer) fault(ctx context.Context, c *call, err error) {
	o.log.ErrorContext(ctx, "call failed", "request_id", c.id, "procedure", c.procedure, "error", err)
}

func (o *observer) unavailable(ctx context.Context, c *call, err error) {
	now := realNow().Unix()
	last := o.lastUnavailable.Load()
	if now == last || !o.lastUnavailable.CompareAndSwap(last, now) {
		o.skipped.Add(1)
		return
	}
	o.log.WarnContext(ctx, "call unavailable", "request_id", c.id, "procedure", c.procedure, "error", err,
		"skipped", o.skipped.Swap(0))
}

// end counts a call that is over, and logs it at debug. What is no call (a page, a wrong path) is left out.
func (o *observer) end(ctx context.Context, c *call) {
	if c.procedure == "" {
		return
	}
	code := c.code
	if code == "" {
		code = "unread"
	}
	took := realNow().Sub(c.started)
	o.calls.WithLabelValues(c.procedure, code).Inc()
	if !c.stream {
		o.duration.WithLabelValues(c.procedure).Observe(took.Seconds())
	}
	if o.log.Enabled(ctx, slog.LevelDebug) {
		o.log.DebugContext(ctx, "call", "request_id", c.id, "procedure", c.procedure, "code", code,
			"reason", strings.TrimPrefix(c.reason, "ERROR_REASON_"), "user_id", c.principal.UserID,
			"device_id", c.principal.DeviceID, "took", took)
	}
}
