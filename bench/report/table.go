package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Table is the report for people.
func (r *Report) Table() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s, %d cores, %.0f GiB, %s, %s, PostgreSQL %s (%s), Redis %s\n", m.CPU, m.Cores, m.MemoryGiB, m.Kernel, m.Go,
		or(m.Postgres, "?"), or(m.Durable, "?"), or(m.Redis, "?"))
	fmt.Fprintf(&b, "%s, took %s, load before: %s, Parley %s\n\n", r.Started.UTC().Format("2006-01-02 15:04 MST"), r.Took, m.LoadBefore, m.Parley)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "case\truns\tfigure\tlimit\tratio\tunit\tp50 ms\tp99 ms\tp99.9 ms\tlimit p99\tµs server\tµs load\tµs PG\tµs Redis\tfailed\tmissing\t")
	for _, s := range r.Summary {
		fmt.Fprintf(w, "%s %s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t\n", s.Workload, s.Case, s.Runs, number(s.Rate), number(s.Limit),
			number(s.Ratio), s.Unit, number(s.Latency.P50), number(s.Latency.P99), number(s.Latency.P999), number(s.LimitLatency.P99),
			number(s.CPU.Server), number(s.CPU.Load), number(s.CPU.Postgres), number(s.CPU.Redis), s.Failed, s.Missing)
	}
	_ = w.Flush() // a strings.Builder takes everything
	r.waits(&b)
	r.beside(&b)
	for _, c := range r.Contention {
		fmt.Fprintf(&b, "\nContention in the server, %s %s:\n%s", c.Workload, c.Case, c.Text)
	}
	for _, s := range r.Failures() {
		fmt.Fprintf(&b, "\nFAILED %s %s, run %d: %d failed, %d missing; %s", s.Workload, s.Case, s.Run, s.Failed, s.Missing,
			strings.Join(s.Problems, "; "))
	}
	if len(r.Failures()) > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// maxWaits is how many wait events of a case the table has.
const maxWaits = 10

// waits writes what PostgreSQL's backends waited for, the most frequent first.
func (r *Report) waits(b *strings.Builder) {
	for _, s := range r.Summary {
		if len(s.Waits) == 0 {
			continue
		}
		names := slices.SortedFunc(maps.Keys(s.Waits), func(x, y string) int {
			return cmp.Or(cmp.Compare(s.Waits[y], s.Waits[x]), strings.Compare(x, y))
		})
		fmt.Fprintf(b, "\nPostgreSQL's busy backends in %s %s were seen", s.Workload, s.Case)
		for i, name := range names[:min(len(names), maxWaits)] {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, " %s %.0f %%", name, 100*s.Waits[name])
		}
		b.WriteByte('\n')
	}
}

// beside writes what the processors did beside the work that was measured: a machine that others use, or that is kept from
// running, shows here.
func (r *Report) beside(b *strings.Builder) {
	for _, s := range r.Summary {
		if s.Beside == (Shares{}) {
			continue
		}
		fmt.Fprintf(b, "\nOf the processors' time in %s %s others took %.0f %%, %.0f %% was stolen, %.0f %% idle\n", s.Workload, s.Case,
			100*s.Beside.Others, 100*s.Beside.Stolen, 100*s.Beside.Idle)
	}
}

// number writes a figure with the digits that mean something; "-" for none.
func number(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}
