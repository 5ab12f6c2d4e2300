package committer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/refusal"
)

// Metrics counts what the committers do. The zero pointer counts nothing.
type Metrics struct {
	sends      *prometheus.CounterVec
	batchSize  prometheus.Histogram
	commitTime prometheus.Histogram
}

// NewMetrics registers the committers' metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		sends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_sends_total",
			Help: "Messages answered, by outcome: committed, repeated, or the reason of the refusal."}, []string{"outcome"}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "parley_commit_batch_messages",
			Help: "Messages per group commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		commitTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "parley_commit_seconds",
			Help: "Time of one group commit, fsync included.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}),
	}
	reg.MustRegister(m.sends, m.batchSize, m.commitTime)
	return m
}

func (m *Metrics) batch(n int, took time.Duration) {
	if m == nil {
		return
	}
	m.batchSize.Observe(float64(n))
	m.commitTime.Observe(took.Seconds())
}

func (m *Metrics) send(o Outcome) {
	if m == nil {
		return
	}
	outcome := "repeated"
	if o.New {
		outcome = "committed"
	} else if o.Err != nil {
		outcome = "error"
		if reason, ok := refusal.Of(o.Err); ok {
			outcome = string(reason)
		}
	}
	m.sends.WithLabelValues(outcome).Inc()
}
