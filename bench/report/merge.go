package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Read reads a report that Write wrote: a bench.json, or the directory that holds one.
func Read(path string) (*Report, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "bench.json")
	}
	raw, err := os.ReadFile(path) //nolint:gosec // named by who runs the bench
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s is no report of the bench: %w", path, err)
	}
	return r, nil
}

// Merge makes one report of several, so that the runs of a long bench can be made in pieces: a case's medians are over its
// runs in all of them, numbered anew in the order given. Of curves and contention of the same name the last ones stay. Only
// reports of the same machine and program with the same settings of each run can be merged: others have no common median.
func Merge(parts ...*Report) (*Report, error) {
	if len(parts) == 0 {
		return nil, errors.New("there is nothing to merge")
	}
	first := parts[0]
	out := &Report{Started: first.Started, Machine: first.Machine, Settings: map[string]string{}}
	took := time.Duration(0)
	runs := make(map[[2]string]int)
	for _, p := range parts {
		if err := first.fits(p); err != nil {
			return nil, err
		}
		if p.Started.Before(out.Started) {
			out.Started, out.Machine.LoadBefore = p.Started, p.Machine.LoadBefore
		}
		d, err := time.ParseDuration(p.Took)
		if err != nil {
			return nil, fmt.Errorf("how long a report took: %w", err)
		}
		took += d
		for _, r := range p.Runs {
			key := [2]string{r.Workload, r.Case}
			runs[key]++
			r.Run = runs[key]
			out.Runs = append(out.Runs, r)
		}
		for _, c := range p.Curves {
			out.Curves = append(slices.DeleteFunc(out.Curves, func(o Curve) bool { return o.Name == c.Name }), c)
		}
		for _, c := range p.Contention {
			out.Contention = append(slices.DeleteFunc(out.Contention, func(o Contention) bool {
				return o.Workload == c.Workload && o.Case == c.Case
			}), c)
		}
	}
	for _, name := range same {
		out.Settings[name] = first.Settings[name]
	}
	out.Settings["merged"] = strconv.Itoa(len(parts))
	out.Took = took.String()
	slices.SortStableFunc(out.Runs, func(a, b Result) int { return strings.Compare(a.Workload, b.Workload) })
	out.Summarize()
	return out, nil
}

// same are the settings in which reports to be merged agree: what else was set says how much was run, not how.
var same = []string{"duration", "warmup", "quick"}

// fits returns why two reports cannot be merged.
func (r *Report) fits(o *Report) error {
	a, b := r.Machine, o.Machine
	a.LoadBefore, b.LoadBefore = "", ""
	if a != b {
		return fmt.Errorf("the reports are of different machines or programs: %+v and %+v", a, b)
	}
	for _, name := range same {
		if r.Settings[name] != o.Settings[name] {
			return fmt.Errorf("the reports differ in %s: %s and %s", name, r.Settings[name], o.Settings[name])
		}
	}
	return nil
}
