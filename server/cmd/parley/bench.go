package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/bench/limit"
	"github.com/parley-im/parley/bench/report"
	"github.com/parley-im/parley/bench/stack"
	"github.com/parley-im/parley/bench/workload"
	"github.com/parley-im/parley/server/app"
)

// benchOptions are the flags of bench.
type benchOptions struct {
	addr, adminKey, postgresURL, redisURL, dataDir, out string
	workloads                                           []string
	runs                                                int
	duration, warmup                                    time.Duration
	quick, noCurves, plan, merge                        bool
	cases                                               string
	grown                                               []int64
	groups                                              []int
}

func benchCommand() *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a server, and beside it what the machine could do at best",
		Long: `Runs the workloads of docs/performance.md over the public API. Each measures its own limit in the same run: a bare
program that does only what cannot be left out. So every figure is a ratio too, which survives another machine.

Without --addr it starts a PostgreSQL (with fsync), a Redis and a server of its own; with --postgres-url and --redis-url
it uses those for them, which must hold nothing of worth: W6 fills the database. With --addr it measures a server that
runs already, and leaves users and messages there. Workloads that must restart the server (W3's with Redis cold and off,
W6) are then left out, and the limits of W1, W3 and W5 need --postgres-url.

It fails if a call failed, if an entry is missing, repeated or out of order on any device, or if a case did nothing.

A long bench can be made in pieces: --cases picks cases by a regular expression, --plan says how long what is picked will
take, and --merge makes one report of several, with medians over all their runs.`,
		Example: `  parley bench --quick --runs 1
  parley bench --workloads W1,W2 --out results
  parley bench --cases 'W2 1000 .* saturated|W4 .* HTTP/2' --runs 2 --out piece-1
  parley bench --merge piece-1 piece-2 --out results
  parley bench --addr 127.0.0.1:8080 --postgres-url postgres://...  # PARLEY_ADMIN_KEY is set`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.merge {
				return cobra.MinimumNArgs(1)(cmd, args)
			}
			return cobra.NoArgs(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.addr, "addr", "", "address (host:port) of a running server; empty: start one")
	f.StringVar(&o.adminKey, "admin-key", "", "its admin key (prefer PARLEY_ADMIN_KEY)")
	f.StringSliceVar(&o.workloads, "workloads", workload.Names, "which workloads to run")
	f.StringVar(&o.cases, "cases", "", "only the cases whose name, such as \"W2 1000 devices, saturated\", this regular expression matches")
	f.BoolVar(&o.plan, "plan", false, "say which cases would run and about how long they take, and run nothing")
	f.BoolVar(&o.merge, "merge", false, "make one report of the reports named as arguments (bench.json, or directories that hold one)")
	f.IntVar(&o.runs, "runs", 5, "how often; the figures are medians")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "how long each case is measured")
	f.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long each case runs before it is measured")
	f.BoolVar(&o.quick, "quick", false, "a look: smaller, once, and 3 s each after 1 s, unless --runs and --duration say otherwise")
	f.BoolVar(&o.noCurves, "no-curves", false, "leave out the runs at parts of the highest rate, which the plot is made of")
	f.Int64SliceVar(&o.grown, "grown", nil, "W6: numbers of stored messages to measure with")
	f.IntSliceVar(&o.groups, "groups", nil, "W2: only its groups of these numbers of devices")
	f.StringVar(&o.out, "out", "bench/results", "directory for bench.json, bench.txt and curves.svg; empty: only the table is printed")
	f.StringVar(&o.postgresURL, "postgres-url", "", "the server's database, for the limits; without --addr: what the server is to use (secret)")
	f.StringVar(&o.redisURL, "redis-url", "", "the server's Redis, to count its processor time; without --addr: what the server is to use (secret)")
	f.StringVar(&o.dataDir, "data-dir", "", "where data is kept while it runs; empty: a directory that is removed afterwards")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.merge {
			return o.mergeReports(cmd, args)
		}
		if err := app.FromEnv(cmd.Flags()); err != nil {
			return err
		}
		if o.quick && !cmd.Flags().Changed("duration") {
			o.duration, o.warmup = 3*time.Second, time.Second
		}
		if o.quick && !cmd.Flags().Changed("runs") {
			o.runs = 1
		}
		return o.run(cmd)
	}
	return cmd
}

func (o *benchOptions) run(cmd *cobra.Command) (err error) {
	ctx := cmd.Context()
	if o.runs < 1 || o.duration <= 0 || o.warmup < 0 {
		return errors.New("--runs and --duration must be more than nothing, --warmup not less")
	}
	if o.addr != "" && o.adminKey == "" {
		return errors.New("--addr needs the server's admin key (PARLEY_ADMIN_KEY), with which the devices are made")
	}
	cfg, steps, err := o.config()
	if err != nil {
		return err
	}
	if o.plan {
		sayPlan(cmd.OutOrStdout(), steps)
		return nil
	}
	fmt.Fprintf(os.Stderr, "%d cases, %d runs each: about %s (--plan lists them)\n", len(steps), o.runs, workload.Sum(steps).Round(time.Minute))
	program, err := os.Executable()
	if err != nil {
		return err
	}
	remove := func() error { return nil }
	if o.dataDir == "" && o.addr == "" {
		if o.dataDir, remove, err = temporaryDir(); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, remove()) }()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := stack.Start(ctx, stack.Config{Program: program, Dir: o.dataDir, PostgresURL: o.postgresURL, RedisURL: o.redisURL,
		Addr: o.addr, AdminKey: o.adminKey, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	rep := &report.Report{Started: time.Now(), Machine: report.ThisMachine(), Settings: o.settings()}
	rep.Machine.Parley = app.Version
	if err := s.Describe(ctx, &rep.Machine); err != nil {
		return err
	}
	measured := o.measure(ctx, cfg, s, rep)
	rep.Took = time.Since(rep.Started).Round(time.Second).String()
	rep.Summarize()
	fmt.Fprint(cmd.OutOrStdout(), "\n", rep.Table())
	if o.out != "" {
		measured = errors.Join(measured, rep.Write(o.out))
	}
	if n := len(rep.Failures()); n > 0 {
		measured = errors.Join(measured, fmt.Errorf("%d of %d runs failed", n, len(rep.Runs)))
	}
	return measured
}

// config is what the flags come to, with its plan.
func (o *benchOptions) config() (cfg workload.Config, steps []workload.Step, err error) {
	scale := workload.FullScale()
	if o.quick {
		scale = workload.QuickScale()
	}
	if len(o.grown) > 0 {
		scale.Grown = o.grown
	}
	if len(o.groups) > 0 {
		scale.Groups = slices.DeleteFunc(workload.FullScale().Groups, func(p workload.Paced) bool { return !slices.Contains(o.groups, p.Devices) })
	}
	cfg = workload.Config{Runs: o.runs, Warmup: o.warmup, Duration: o.duration, Curves: !o.noCurves && !o.quick, Scale: scale, Progress: os.Stderr}
	if o.cases != "" {
		if cfg.Cases, err = regexp.Compile(o.cases); err != nil {
			return cfg, nil, fmt.Errorf("--cases: %w", err)
		}
	}
	steps, err = workload.Plan(cfg, o.workloads, o.addr == "")
	cfg.Total = workload.Sum(steps)
	return cfg, steps, err
}

func sayPlan(out io.Writer, steps []workload.Step) {
	for _, s := range steps {
		fmt.Fprintf(out, "%7s  %d x %s %s\n", s.Takes.Round(time.Second), s.Runs, s.Workload, s.Case)
	}
	fmt.Fprintf(out, "%7s  in all, about\n", workload.Sum(steps).Round(time.Second))
}

func (o *benchOptions) measure(ctx context.Context, cfg workload.Config, s *stack.Stack, rep *report.Report) error {
	b := workload.New(cfg, s, rep)
	var failed error
	for _, name := range o.workloads {
		if err := ctx.Err(); err != nil {
			return errors.Join(failed, err)
		}
		// One that cannot be measured fails the bench; the others are worth having all the same.
		if err := b.Run(ctx, name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			failed = errors.Join(failed, err)
		}
		if s.Owned() {
			if err := s.Serve(ctx, nil); err != nil { // as it was before
				return errors.Join(failed, err)
			}
		}
	}
	return failed
}

// mergeReports makes one report of several.
func (o *benchOptions) mergeReports(cmd *cobra.Command, paths []string) error {
	parts := make([]*report.Report, len(paths))
	for i, path := range paths {
		var err error
		if parts[i], err = report.Read(path); err != nil {
			return err
		}
	}
	rep, err := report.Merge(parts...)
	if err != nil {
		return err
	}
	fmt.Fprint(cmd.OutOrStdout(), rep.Table())
	if o.out != "" {
		err = rep.Write(o.out)
	}
	if n := len(rep.Failures()); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d runs failed", n, len(rep.Runs)))
	}
	return err
}

func (o *benchOptions) settings() map[string]string {
	return map[string]string{"runs": strconv.Itoa(o.runs), "duration": o.duration.String(), "warmup": o.warmup.String(),
		"quick": strconv.FormatBool(o.quick), "workloads": strings.Join(o.workloads, ","), "cases": o.cases}
}

// temporaryDir makes a directory that PostgreSQL's own user can enter.
func temporaryDir() (dir string, remove func() error, err error) {
	if dir, err = os.MkdirTemp("", "parley-bench-"); err != nil {
		return "", nil, err
	}
	return filepath.Clean(dir), func() error { return os.RemoveAll(dir) }, os.Chmod(dir, 0o755) //nolint:gosec // as said
}

// benchLimitCommand runs a bare server. The bench starts it as a process of its own.
func benchLimitCommand() *cobra.Command {
	return &cobra.Command{
		Use:    limit.Command + " KIND",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return limit.Serve(cmd.Context(), args[0], os.Stdin, os.Stdout)
		},
	}
}
