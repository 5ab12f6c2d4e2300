package webhook

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what the package counts.
type Metrics struct {
	queued     prometheus.Counter
	attempts   *prometheus.CounterVec
	took       prometheus.Histogram
	givenUp    prometheus.Counter
	gaps       prometheus.Counter
	moderation *prometheus.CounterVec
	judging    prometheus.Histogram
}

// NewMetrics returns metrics, registered with reg unless that is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		queued: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_webhook_queued_total", Help: "Deliveries that this node queued."}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_webhook_attempts_total",
			Help: "Requests to webhooks by what came of them: ok, or the class of the error."}, []string{"result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "parley_webhook_attempt_seconds", Help: "How long requests to webhooks took.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10}}),
		givenUp: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_webhook_given_up_total", Help: "Deliveries whose every attempt failed."}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_webhook_gaps_total",
			Help: "How often the reader came back so late that what it had to read may have been trimmed, or a webhook was disabled by its backlog."}),
		moderation: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_webhook_moderated_total",
			Help: "Messages by what moderation said: allow, reject, replace, or failed_allow and failed_reject where it said nothing."}, []string{"result"}),
		judging: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "parley_webhook_moderation_seconds", Help: "How long moderation took.",
			Buckets: []float64{.003, .01, .03, .1, .3, 1, 3}}),
	}
	if reg != nil {
		reg.MustRegister(m.queued, m.attempts, m.took, m.givenUp, m.gaps, m.moderation, m.judging)
	}
	return m
}

func (m *Metrics) attempt(a Attempt) {
	result := a.Error
	if result == "" {
		result = "ok"
	}
	m.attempts.WithLabelValues(result).Inc()
	m.took.Observe(a.Took.Seconds())
}
