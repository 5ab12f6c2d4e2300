package statecache

import "github.com/prometheus/client_golang/prometheus"

// metrics counts what the cache does.
type metrics struct {
	reads, fills, deletes *prometheus.CounterVec
	waits                 prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_state_cache_reads_total",
			Help: "States read, by outcome: hit; miss, read under a lease; shared, read although somebody else has the lease; bypass, not asked of Redis or not kept there."},
			[]string{"outcome"}),
		fills: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_state_cache_fills_total",
			Help: "Values for the cache, by outcome: stored; refused, since the lease was void; failed."}, []string{"outcome"}),
		deletes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_state_cache_deletes_total",
			Help: "Keys to be deleted, by outcome: done; failed, to be tried again; skipped, since Redis is left alone; dropped, left to the feed."},
			[]string{"outcome"}),
		waits: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_state_cache_waits_total",
			Help: "Pauses in which a reader waited for somebody else's lease."}),
	}
	if reg != nil {
		reg.MustRegister(m.reads, m.fills, m.deletes, m.waits)
	}
	return m
}

func count(v *prometheus.CounterVec, outcome string, n int) {
	if n > 0 {
		v.WithLabelValues(outcome).Add(float64(n))
	}
}
