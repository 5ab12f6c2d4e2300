package hints

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts hints. A nil one counts nothing.
type Metrics struct {
	reg                          prometheus.Registerer
	told, heard, dropped, broken prometheus.Counter
}

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	if reg == nil {
		return nil
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{reg: reg,
		told:    counter("parley_hints_told_total", "Hints published to other nodes."),
		heard:   counter("parley_hints_heard_total", "Hints taken from other nodes."),
		dropped: counter("parley_hints_dropped_total", "Hints that were not published: too many waited, or Redis failed."),
		broken:  counter("parley_hints_broken_total", "Hints that could not be understood."),
	}
	reg.MustRegister(m.told, m.heard, m.dropped, m.broken)
	return m
}

func (m *Metrics) observe(h *Hints) {
	if m == nil {
		return
	}
	gauge := func(name, help string, v func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, v)
	}
	m.reg.MustRegister(
		gauge("parley_hints_up", "1 while hints from other nodes are heard, as probes show.", func() float64 {
			if h.Up() {
				return 1
			}
			return 0
		}),
		gauge("parley_hints_peers", "Other nodes that were heard lately.", func() float64 { return float64(h.Peers()) }),
		gauge("parley_hints_channels", "Channels that this node has interest in.", func() float64 { return float64(h.in.channels()) }),
	)
}

func (m *Metrics) tell(n int) {
	if m != nil {
		m.told.Add(float64(n))
	}
}

func (m *Metrics) drop(n int) {
	if m != nil {
		m.dropped.Add(float64(n))
	}
}

func (m *Metrics) hear() {
	if m != nil {
		m.heard.Inc()
	}
}

func (m *Metrics) bad() {
	if m != nil {
		m.broken.Inc()
	}
}
