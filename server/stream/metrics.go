package stream

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what the streams do. The zero pointer counts nothing.
type Metrics struct {
	reg        prometheus.Registerer
	deliveries prometheus.Counter
	frames     prometheus.Histogram
	overflows  prometheus.Counter
	asks       prometheus.Histogram
}

// NewMetrics registers the streams' metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		reg: reg,
		deliveries: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_deliveries_total",
			Help: "Log entries written to streams."}),
		frames: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "parley_stream_frame_bytes",
			Help: "Size of the frames written to streams.", Buckets: prometheus.ExponentialBuckets(64, 4, 7)}),
		overflows: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_stream_overflows_total",
			Help: "How often a stream's queue reached its bound and the stream fell back to pulling."}),
	}
	m.asks = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "parley_start_batch_devices",
		Help: "Devices that one statement answered when they came back.", Buckets: prometheus.ExponentialBuckets(1, 2, 7)})
	reg.MustRegister(m.deliveries, m.frames, m.overflows, m.asks)
	return m
}

// observe registers the gauges that ask the manager.
func (m *Metrics) observe(mgr *Manager) {
	if m == nil {
		return
	}
	m.reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_streams", Help: "Live streams."},
			func() float64 { return float64(mgr.Streams()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_starts_waiting",
			Help: "Devices that came back and wait to be told where they stand."},
			func() float64 { return float64(mgr.arrivals.Waiting()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_stream_queue_bytes", Help: "Bytes waiting in stream queues."},
			func() float64 { return float64(mgr.QueueBytes()) }))
}

func (m *Metrics) asked(n int) {
	if m != nil {
		m.asks.Observe(float64(n))
	}
}

func (m *Metrics) delivered(n int) {
	if m != nil {
		m.deliveries.Add(float64(n))
	}
}

func (m *Metrics) frame(n int) {
	if m != nil {
		m.frames.Observe(float64(n))
	}
}

func (m *Metrics) overflow() {
	if m != nil {
		m.overflows.Inc()
	}
}
