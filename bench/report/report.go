// Package report holds what the bench found, takes medians over runs, and writes it as JSON, as a table and as a plot.
package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/parley-im/parley/bench/latency"
)

// Report is one call of the bench.
type Report struct {
	Started  time.Time         `json:"started"`
	Took     string            `json:"took"`
	Machine  Machine           `json:"machine"`
	Settings map[string]string `json:"settings"`
	// Summary has the medians of each case over its runs, Runs all runs.
	Summary []Result `json:"summary"`
	Runs    []Result `json:"runs"`
	Curves  []Curve  `json:"curves,omitempty"`
	// Contention is what goroutines of the server waited for, measured apart from the figures.
	Contention []Contention `json:"contention,omitempty"`
}

// Contention is what the server says of the locks and channels that its goroutines waited for under the load of a case.
type Contention struct {
	Workload string `json:"workload"`
	Case     string `json:"case"`
	Text     string `json:"text"`
}

// Machine is what the figures depend on.
type Machine struct {
	CPU       string  `json:"cpu"`
	Cores     int     `json:"cores"`
	MemoryGiB float64 `json:"memory_gib"`
	Kernel    string  `json:"kernel"`
	Go        string  `json:"go"`
	Parley    string  `json:"parley"`
	Postgres  string  `json:"postgres,omitempty"`
	Durable   string  `json:"durable,omitempty"`
	Redis     string  `json:"redis,omitempty"`
	// LoadBefore is the load average before the first run: on a quiet machine it is about 0.
	LoadBefore string `json:"load_before"`
}

// Result is one run of one case of a workload.
type Result struct {
	Workload string `json:"workload"`
	Case     string `json:"case"`
	Run      int    `json:"run"`
	Runs     int    `json:"runs,omitempty"`
	// Stage says what was stored (W6).
	Stage string `json:"stage,omitempty"`
	// Rate is the figure of the case, in Unit: what was done per second or, where LowerIsBetter, how long something took or
	// how much a device takes. Limit is the same of the bare program, in the same run.
	Unit          string  `json:"unit"`
	Rate          float64 `json:"rate"`
	Limit         float64 `json:"limit,omitempty"`
	Ratio         float64 `json:"ratio,omitempty"`
	LowerIsBetter bool    `json:"lower_is_better,omitempty"`

	Latency      latency.Summary `json:"latency"`
	LimitLatency latency.Summary `json:"limit_latency"`
	// CPU is processor time per operation in microseconds, LimitCPU that of the bare program.
	CPU      CPU `json:"cpu_us_per_op"`
	LimitCPU CPU `json:"limit_cpu_us_per_op"`

	Operations int64 `json:"operations"`
	Failed     int64 `json:"failed"`
	Missing    int64 `json:"missing"`
	// Problems are the first breaks of the promises in words; one is enough to fail the run.
	Problems []string           `json:"problems,omitempty"`
	Extra    map[string]float64 `json:"extra,omitempty"`
	// Waits is what PostgreSQL's busy backends were seen at: shares that make up 1, by wait event; Running is none.
	Waits map[string]float64 `json:"waits,omitempty"`
	// Beside is what the machine's processors did beside what CPU counts, in W1 and W6's sending; zero where it was not looked at.
	Beside Shares `json:"beside,omitzero"`
}

// Shares are parts of the time of all processors of the machine.
type Shares struct {
	// Others is what other processes took, and the kernel's own threads, as those that write pages back.
	Others float64 `json:"others"`
	// Stolen is what the machine below did not give to a virtual one that had work.
	Stolen float64 `json:"stolen"`
	Idle   float64 `json:"idle"`
}

// Running is the name in Waits of not waiting.
const Running = "running"

// CPU is processor time per operation in microseconds, by who took it.
type CPU struct {
	Server   float64 `json:"server"`
	Load     float64 `json:"load"`
	Postgres float64 `json:"postgres"`
	Redis    float64 `json:"redis"`
}

// Point is one place on a curve.
type Point struct {
	Offered float64         `json:"offered"`
	Rate    float64         `json:"rate"`
	Latency latency.Summary `json:"latency"`
}

// Curve is latency over throughput.
type Curve struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Points []Point `json:"points"`
}

// OK reports whether the result is worth anything: something was done, nothing failed, nothing is missing, no promise was
// broken.
func (r Result) OK() bool {
	return r.Operations > 0 && r.Failed == 0 && r.Missing == 0 && len(r.Problems) == 0
}

// Judge says in Problems that nothing was measured or, where limited says that there is a limit, nothing of that: an empty
// case must not pass for a good one.
func (r *Result) Judge(limited bool) {
	if r.Operations <= 0 {
		r.Problems = append(r.Problems, "nothing was measured")
	}
	if limited && r.Limit == 0 {
		r.Problems = append(r.Problems, "nothing was measured of the limit")
	}
}

// Compare sets Ratio: how much of the limit was reached, 1 being all of it.
func (r *Result) Compare() {
	switch {
	case r.Limit == 0 || r.Rate == 0:
		r.Ratio = 0
	case r.LowerIsBetter:
		r.Ratio = r.Limit / r.Rate
	default:
		r.Ratio = r.Rate / r.Limit
	}
}

// ByLatency makes the 99th percentile the figure of the case: where the rate is given, it says nothing.
func (r *Result) ByLatency() {
	r.Unit, r.LowerIsBetter = "ms (p99)", true
	r.Rate, r.Limit = r.Latency.P99, r.LimitLatency.P99
}

// Failures returns the results that are worth nothing.
func (r *Report) Failures() (out []Result) {
	for _, res := range r.Runs {
		if !res.OK() {
			out = append(out, res)
		}
	}
	return out
}

// Summarize sets Summary: the median of each figure over a case's runs, and the sum of what went wrong. Cases keep the
// order in which they first ran.
func (r *Report) Summarize() {
	type key struct{ workload, name string }
	byCase := make(map[key][]Result)
	var order []key
	for _, res := range r.Runs {
		k := key{res.Workload, res.Case}
		if byCase[k] == nil {
			order = append(order, k)
		}
		byCase[k] = append(byCase[k], res)
	}
	r.Summary = nil
	for _, k := range order {
		r.Summary = append(r.Summary, summarize(byCase[k]))
	}
}

func summarize(runs []Result) Result {
	med := func(of func(Result) float64) float64 {
		values := make([]float64, len(runs))
		for i, r := range runs {
			values[i] = of(r)
		}
		return Median(values)
	}
	lat := func(of func(Result) latency.Summary) latency.Summary {
		return latency.Summary{
			Count: int64(med(func(r Result) float64 { return float64(of(r).Count) })),
			P50:   med(func(r Result) float64 { return of(r).P50 }), P90: med(func(r Result) float64 { return of(r).P90 }),
			P99: med(func(r Result) float64 { return of(r).P99 }), P999: med(func(r Result) float64 { return of(r).P999 }),
			Max: med(func(r Result) float64 { return of(r).Max }), Mean: med(func(r Result) float64 { return of(r).Mean }),
		}
	}
	cpu := func(of func(Result) CPU) CPU {
		return CPU{Server: med(func(r Result) float64 { return of(r).Server }), Load: med(func(r Result) float64 { return of(r).Load }),
			Postgres: med(func(r Result) float64 { return of(r).Postgres }), Redis: med(func(r Result) float64 { return of(r).Redis })}
	}
	s := runs[0]
	s.Run, s.Runs, s.Problems, s.Extra = 0, len(runs), nil, nil
	s.Rate, s.Limit = med(func(r Result) float64 { return r.Rate }), med(func(r Result) float64 { return r.Limit })
	// The median of the ratios, not the ratio of the medians: a ratio is of one run.
	s.Ratio = med(func(r Result) float64 { return r.Ratio })
	s.Latency, s.LimitLatency = lat(func(r Result) latency.Summary { return r.Latency }), lat(func(r Result) latency.Summary { return r.LimitLatency })
	s.CPU, s.LimitCPU = cpu(func(r Result) CPU { return r.CPU }), cpu(func(r Result) CPU { return r.LimitCPU })
	s.Beside = Shares{Others: med(func(r Result) float64 { return r.Beside.Others }), Stolen: med(func(r Result) float64 { return r.Beside.Stolen }),
		Idle: med(func(r Result) float64 { return r.Beside.Idle })}
	s.Operations, s.Failed, s.Missing = 0, 0, 0
	for _, r := range runs {
		s.Operations += r.Operations
		s.Failed += r.Failed
		s.Missing += r.Missing
		s.Problems = append(s.Problems, r.Problems...)
	}
	for _, name := range slices.Sorted(maps.Keys(runs[0].Extra)) {
		if s.Extra == nil {
			s.Extra = make(map[string]float64)
		}
		s.Extra[name] = med(func(r Result) float64 { return r.Extra[name] })
	}
	s.Waits = meanWaits(runs)
	return s
}

// meanWaits is the mean of the runs' shares, so that they still make up 1.
func meanWaits(runs []Result) map[string]float64 {
	sum, seen := make(map[string]float64), 0.0
	for _, r := range runs {
		if len(r.Waits) > 0 {
			seen++
		}
		for name, share := range r.Waits {
			sum[name] += share
		}
	}
	for name := range sum {
		sum[name] /= seen
	}
	if seen == 0 {
		return nil
	}
	return sum
}

// Median returns the middle of values, the mean of the two middle ones where their number is even, and 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.SortedFunc(slices.Values(values), cmp.Compare[float64])
	mid := len(v) / 2
	if len(v)%2 == 1 {
		return v[mid]
	}
	return (v[mid-1] + v[mid]) / 2
}

// Write writes bench.json, bench.txt and, where there are curves, curves.svg into a directory, which it makes.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a report is for all to read
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	save := func(name string, content []byte) error {
		return os.WriteFile(filepath.Join(dir, name), content, 0o644) //nolint:gosec // a report is for all to read
	}
	errs := []error{save("bench.json", append(raw, '\n')), save("bench.txt", []byte(r.Table()))}
	if len(r.Curves) > 0 {
		errs = append(errs, save("curves.svg", Plot(r.Curves)))
	}
	return errors.Join(errs...)
}

// finite is v, or 0 where a division by nothing made none.
func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}
