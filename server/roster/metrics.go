package roster

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the map is good for.
type metrics struct {
	lookups     *prometheus.CounterVec // by what was asked for, and whether the map answered
	loads       *prometheus.CounterVec // by outcome
	applied     prometheus.Counter
	loadSeconds prometheus.Gauge
}

func newMetrics(r *Roster, reg prometheus.Registerer) *metrics {
	m := &metrics{
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_roster_lookups_total",
			Help: "Questions to the relation map: hit was answered by it, miss went to PostgreSQL."}, []string{"kind", "result"}),
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_roster_loads_total",
			Help: "Loads of the relation map."}, []string{"result"}),
		applied: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_roster_changes_total",
			Help: "Changed rows that were read again."}),
		loadSeconds: prometheus.NewGauge(prometheus.GaugeOpts{Name: "parley_roster_load_seconds",
			Help: "How long the last load took."}),
	}
	if reg == nil {
		return m
	}
	gauge := func(name, help string, value func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(r.Status()) })
	}
	reg.MustRegister(m.lookups, m.loads, m.applied, m.loadSeconds,
		gauge("parley_roster_age_seconds", "Age of the relation map; +Inf when it is not loaded. Past 5 it answers nothing.",
			func(s Status) float64 {
				if !s.Loaded {
					return math.Inf(1)
				}
				return s.AgeSeconds
			}),
		gauge("parley_roster_bytes", "Memory that the relation map holds.", func(s Status) float64 { return float64(s.Bytes) }),
		gauge("parley_roster_memberships", "Rows of user_to_session in the relation map.",
			func(s Status) float64 { return float64(s.Memberships) }))
	return m
}

func (m *metrics) lookup(kind string, hit bool) {
	result := "miss"
	if hit {
		result = "hit"
	}
	m.lookups.WithLabelValues(kind, result).Inc()
}
