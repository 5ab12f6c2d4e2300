// Package latency keeps latencies of many goroutines in HdrHistograms.
package latency

import (
	"encoding/binary"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// highest is the longest latency that is told apart, in microseconds; longer ones count as this.
	highest = int64(2 * time.Minute / time.Microsecond)
	digits  = 3
	shards  = 4
)

// Recorder records latencies while it is on. It is safe for concurrent use.
type Recorder struct {
	on     atomic.Bool
	shards [shards]shard
}

type shard struct {
	mu   sync.Mutex
	hist *hdrhistogram.Histogram
	_    [64]byte // shards are written by different processors
}

// NewRecorder returns a recorder that is off: what comes before Begin is warm-up.
func NewRecorder() *Recorder {
	r := &Recorder{}
	for i := range r.shards {
		r.shards[i].hist = hdrhistogram.New(1, highest, digits)
	}
	return r
}

// Begin empties the recorder and turns it on.
func (r *Recorder) Begin() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.hist.Reset()
		s.mu.Unlock()
	}
	r.on.Store(true)
}

// End turns it off and returns what was recorded.
func (r *Recorder) End() Summary {
	r.on.Store(false)
	all := hdrhistogram.New(1, highest, digits)
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		all.Merge(s.hist)
		s.mu.Unlock()
	}
	return summarize(all)
}

// Record notes n latencies of d. who spreads callers over the shards.
func (r *Recorder) Record(who int, d time.Duration, n int64) {
	if !r.on.Load() {
		return
	}
	v := min(max(d.Microseconds(), 1), highest)
	s := &r.shards[who%shards]
	s.mu.Lock()
	_ = s.hist.RecordValues(v, n) // v is in range
	s.mu.Unlock()
}

// Summary is a distribution, in milliseconds. Percentiles are of all samples.
type Summary struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99_9_ms"`
	Max   float64 `json:"max_ms"`
	Mean  float64 `json:"mean_ms"`
}

func summarize(h *hdrhistogram.Histogram) Summary {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	if h.TotalCount() == 0 {
		return Summary{}
	}
	return Summary{Count: h.TotalCount(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		Max: float64(h.Max()) / 1000, Mean: h.Mean() / 1000}
}

// stampBytes is the length of a stamp.
const stampBytes = 16

// AppendStamp appends a time as text, for the beginning of a message's body. One machine's clock reads it again.
func AppendStamp(b []byte, t time.Time) []byte {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], uint64(t.UnixNano()))
	return hex.AppendEncode(b, raw[:])
}

// Stamp reads the time at the beginning of a body. ok is false where there is none.
func Stamp(body []byte) (t time.Time, ok bool) {
	if len(body) < stampBytes {
		return t, false
	}
	var v int64
	for _, c := range body[:stampBytes] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return t, false
		}
		v = v<<4 | int64(c)
	}
	return time.Unix(0, v), true
}
