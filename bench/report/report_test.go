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
		Problems: []string{"device 3: 2 missing"}}
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
