package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/bench/latency"
	"github.com/parley-im/parley/bench/report"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for want, values := range map[float64][]float64{0: nil, 4: {4}, 3: {9, 1, 3}, 2.5: {4, 2, 3, 1}} {
		require.InDelta(t, want, report.Median(values), 1e-9)
	}
}

// runs are three of one case and one of another, the second of which failed.
func runs() *report.Report {
	r := &report.Report{Started: time.Unix(0, 0), Machine: report.ThisMachine()}
	for i, rate := range []float64{100, 300, 200} {
		res := report.Result{Workload: "W1", Case: "a", Run: i + 1, Unit: "messages/s", Rate: rate, Limit: 1000 / float64(i+1),
			Latency: latency.Summary{Count: 10, P50: rate, P99: 2 * rate}, Operations: 10, Extra: map[string]float64{"x": rate}}
		res.Compare()
		r.Runs = append(r.Runs, res)
	}
	other := report.Result{Workload: "W4", Case: "b", Run: 1, Unit: "kB/device", Rate: 50, Limit: 25, LowerIsBetter: true, Missing: 2,
		Problems: []string{"device 3: 2 missing"}, Operations: 7}
	other.Compare()
	r.Runs = append(r.Runs, other)
	r.Summarize()
	return r
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	r := runs()
	require.Len(t, r.Summary, 2)
	a, b := r.Summary[0], r.Summary[1]
	require.InDelta(t, 200, a.Rate, 1e-9)
	require.InDelta(t, 500, a.Limit, 1e-9)
	require.InDelta(t, 0.6, a.Ratio, 1e-9, "the median of 0.1, 0.6, 0.6, each of one run")
	require.InDelta(t, 400, a.Latency.P99, 1e-9)
	require.EqualValues(t, 30, a.Operations)
	require.Equal(t, map[string]float64{"x": 200}, a.Extra)
	require.True(t, a.OK())
	require.InDelta(t, 0.5, b.Ratio, 1e-9, "twice the memory is half as good")
	require.Equal(t, []string{"device 3: 2 missing"}, b.Problems)
	require.Len(t, r.Failures(), 1)
}

func TestAnEmptyCaseFails(t *testing.T) {
	t.Parallel()
	empty := report.Result{Workload: "W2", Case: "a", LowerIsBetter: true}
	require.False(t, empty.OK(), "a latency of nothing is no good one")
	empty.Judge(false)
	require.Equal(t, []string{"nothing was measured"}, empty.Problems)
	bare := report.Result{Operations: 5, Rate: 3}
	require.True(t, bare.OK())
	bare.Judge(false)
	require.True(t, bare.OK())
	bare.Judge(true)
	require.Equal(t, []string{"nothing was measured of the limit"}, bare.Problems)
	require.False(t, bare.OK())
}

func TestWaits(t *testing.T) {
	t.Parallel()
	r := runs()
	r.Runs[0].Waits = map[string]float64{report.Running: 0.5, "LWLock:WALWrite": 0.5}
	r.Runs[2].Waits = map[string]float64{report.Running: 1}
	r.Summarize()
	require.Equal(t, map[string]float64{report.Running: 0.75, "LWLock:WALWrite": 0.25}, r.Summary[0].Waits, "the mean of those that were seen")
	require.Contains(t, r.Table(), "W1 a were seen running 75 %, LWLock:WALWrite 25 %")
}

func TestBeside(t *testing.T) {
	t.Parallel()
	r := runs()
	require.NotContains(t, r.Table(), "Of the processors' time", "nobody looked")
	for i, others := range []float64{0.5, 0.25, 0.125} {
		r.Runs[i].Beside = report.Shares{Others: others, Stolen: 0.0625, Idle: 0.25 - others/2}
	}
	r.Summarize()
	require.Equal(t, report.Shares{Others: 0.25, Stolen: 0.0625, Idle: 0.125}, r.Summary[0].Beside)
	require.Contains(t, r.Table(), "in W1 a others took 25 %, 6 % was stolen, 12 % idle\n")
	require.NotContains(t, r.Table(), "W4 b others")
}

func TestMerge(t *testing.T) {
	t.Parallel()
	piece := func(rate float64, curve string) *report.Report {
		r := &report.Report{Started: time.Unix(int64(rate), 0), Took: "1m10s", Machine: report.Machine{CPU: "x", Cores: 2},
			Settings: map[string]string{"duration": "5s", "warmup": "2s", "quick": "false", "runs": "1"},
			Runs:     []report.Result{{Workload: "W1", Case: "a", Run: 1, Rate: rate, Limit: 2 * rate, Ratio: 0.5, Operations: 1}},
			Curves:   []report.Curve{{Name: curve, Unit: curve}}, Contention: []report.Contention{{Workload: "W1", Case: "a", Text: curve}}}
		r.Summarize()
		return r
	}
	a, b := piece(300, "c"), piece(100, "c")
	b.Runs = append(b.Runs, report.Result{Workload: "W2", Case: "b", Run: 1, Rate: 7, Operations: 1, Failed: 2})
	dir := filepath.Join(t.TempDir(), "b")
	require.NoError(t, b.Write(dir))
	read, err := report.Read(dir)
	require.NoError(t, err)
	got, err := report.Merge(a, read, piece(200, "d"))
	require.NoError(t, err)
	require.Len(t, got.Summary, 2)
	require.InDelta(t, 200, got.Summary[0].Rate, 1e-9)
	require.Equal(t, 3, got.Summary[0].Runs)
	require.Equal(t, []int{1, 2, 3, 1}, []int{got.Runs[0].Run, got.Runs[1].Run, got.Runs[2].Run, got.Runs[3].Run})
	require.Len(t, got.Curves, 2, "of one name the last stays")
	require.Len(t, got.Contention, 1)
	require.Equal(t, "d", got.Contention[0].Text)
	require.Equal(t, "3m30s", got.Took)
	require.Equal(t, time.Unix(100, 0), got.Started.Local())
	require.Len(t, got.Failures(), 1, "what failed in one piece failed")

	other := piece(1, "c")
	other.Machine.Cores = 64
	_, err = report.Merge(a, other)
	require.ErrorContains(t, err, "different machines")
	longer := piece(1, "c")
	longer.Settings["duration"] = "10s"
	_, err = report.Merge(a, longer)
	require.ErrorContains(t, err, "duration")
	_, err = report.Merge()
	require.Error(t, err)
	_, err = report.Read(filepath.Join(t.TempDir(), "nothing"))
	require.Error(t, err)
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := runs().Table()
	require.Contains(t, table, "W1 a")
	require.Contains(t, table, "FAILED W4 b, run 1: 0 failed, 2 missing; device 3: 2 missing")
	var widths []int
	for line := range strings.Lines(table) {
		if strings.Contains(line, "case") || strings.Contains(line, "W1 a") {
			widths = append(widths, len([]rune(line)))
		}
	}
	require.Len(t, widths, 2)
	require.Equal(t, widths[0], widths[1], "columns stand below each other")
}

func TestWrite(t *testing.T) {
	t.Parallel()
	r := runs()
	r.Curves = []report.Curve{
		{Name: "W1 <&>", Unit: "messages/s", Points: []report.Point{{Rate: 10, Latency: latency.Summary{P50: 0.5, P99: 3}},
			{Rate: 900, Latency: latency.Summary{P50: 20, P99: 350}}}},
		{Name: "nothing", Unit: "deliveries/s", Points: []report.Point{{}}},
	}
	dir := filepath.Join(t.TempDir(), "results")
	require.NoError(t, r.Write(dir))
	raw, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	require.NoError(t, err)
	var back report.Report
	require.NoError(t, json.Unmarshal(raw, &back))
	require.Equal(t, r.Summary, back.Summary)
	text, err := os.ReadFile(filepath.Join(dir, "bench.txt"))
	require.NoError(t, err)
	require.Equal(t, r.Table(), string(text))

	svg, err := os.Open(filepath.Join(dir, "curves.svg"))
	require.NoError(t, err)
	defer svg.Close()
	paths := 0
	for d := xml.NewDecoder(svg); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, "not well-formed")
		if e, ok := token.(xml.StartElement); ok {
			if e.Name.Local == "path" {
				paths++
			}
			for _, a := range e.Attr {
				require.NotContains(t, a.Value, "NaN")
				require.NotContains(t, a.Value, "Inf")
			}
		}
	}
	require.Equal(t, 4, paths, "p50 and p99 of each curve")
}
