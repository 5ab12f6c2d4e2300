// Package workload has the workloads of the bench, W1 to W6. Each measures Parley over its public API and, in the same
// run, a bare program that does only what cannot be left out, so that each figure is a ratio too.
//
// Time is counted after a warm-up; percentiles are of all samples after it. A failed call, a missing, repeated or
// disordered entry fails the run.
package workload

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parley-im/parley/bench/load"
	"github.com/parley-im/parley/bench/report"
	"github.com/parley-im/parley/bench/stack"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Config says how long and how large.
type Config struct {
	Runs     int
	Warmup   time.Duration
	Duration time.Duration
	// Curves adds the runs at parts of the highest rate.
	Curves bool
	Scale  Scale
	// Cases, when set, are the only ones that run, by "W2 1000 devices, saturated" and the like; what one needs runs too.
	Cases *regexp.Regexp
	// Total is how long all of it will take, about (Plan), for telling how far it is; 0: it is not told.
	Total time.Duration
	// Progress gets a line for each step.
	Progress io.Writer
}

// Scale is how large the workloads are.
type Scale struct {
	Senders  int // W1: devices that send
	Sessions int // W1: sessions that they send to
	InFlight []int
	Groups   []Paced // W2
	// W3: devices that come back at once, and what each has not seen.
	Returning       []int
	Backlog, Unread int
	Idle            int // W4: idle devices
	SmallGroups     int // W5: groups
	SmallGroup      int // W5: members of each
	Grown           []int64
	Memberships     int64 // W6, with each of Grown
}

// Paced is a group of W2 and the rate at which it is also measured.
type Paced struct {
	Devices int
	PerSec  float64
}

// FullScale is that of the figures in docs/performance.md.
func FullScale() Scale {
	return Scale{Senders: 64, Sessions: 1000, InFlight: []int{1, 16}, Groups: []Paced{{1000, 20}, {10_000, 2}},
		Returning: []int{1, 50}, Backlog: 100, Unread: 50, Idle: 10_000, SmallGroups: 1000, SmallGroup: 10,
		Grown: []int64{10_000_000}, Memberships: 1_000_000}
}

// QuickScale is for a look.
func QuickScale() Scale {
	s := FullScale()
	s.Groups = []Paced{{1000, 20}}
	s.Returning, s.Idle, s.SmallGroups = []int{1, 10}, 2000, 200
	s.Grown, s.Memberships = []int64{1_000_000}, 100_000
	return s
}

// TinyScale is for tests of the bench itself.
func TinyScale() Scale {
	return Scale{Senders: 4, Sessions: 8, InFlight: []int{1, 4}, Groups: []Paced{{20, 50}}, Returning: []int{1, 3}, Backlog: 5,
		Unread: 10, Idle: 20, SmallGroups: 3, SmallGroup: 4, Grown: []int64{20_000}, Memberships: 2000}
}

// Bench runs workloads against a stack. Its methods are not safe for concurrent use.
type Bench struct {
	cfg    Config
	stack  *stack.Stack
	prefix string // of the users' ids: each call of the bench has its own
	serial int
	report *report.Report
	began  time.Time
	prove  sync.Mutex // guards a result that several goroutines prove at the same time
}

// New makes a bench whose results go to rep.
func New(cfg Config, s *stack.Stack, rep *report.Report) *Bench {
	var raw [3]byte
	_, _ = rand.Read(raw[:]) // never fails: the program would end
	return &Bench{cfg: cfg, stack: s, prefix: "bench-" + hex.EncodeToString(raw[:]), report: rep, began: time.Now()}
}

// Names are the workloads in the order in which they run.
var Names = []string{"W1", "W2", "W3", "W4", "W5", "W6"}

// Run runs one workload. An error means that it could not be measured; that it was measured and something was wrong is in
// the report.
func (b *Bench) Run(ctx context.Context, name string) error {
	all := map[string]func(context.Context) error{"W1": b.w1, "W2": b.w2, "W3": b.w3, "W4": b.w4, "W5": b.w5, "W6": b.w6}
	run := all[strings.ToUpper(name)]
	if run == nil {
		return unknown(name)
	}
	if err := run(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func unknown(name string) error {
	return fmt.Errorf("there is no workload %s; there are %s", name, strings.Join(Names, ", "))
}

func (b *Bench) say(format string, a ...any) { fmt.Fprintf(b.cfg.Progress, format+"\n", a...) }

// limited reports whether what needs the database's address has a limit to be compared with.
func (b *Bench) limited() bool { return b.stack.PostgresURL() != "" }

// add keeps a result and says it. limited: it has a limit.
func (b *Bench) add(r report.Result, limited bool) {
	r.Compare()
	r.Judge(limited)
	b.report.Runs = append(b.report.Runs, r)
	verdict := ""
	if !r.OK() {
		verdict = fmt.Sprintf("  FAILED: %d failed, %d missing, %s", r.Failed, r.Missing, strings.Join(r.Problems, "; "))
	}
	far := ""
	if b.cfg.Total > 0 {
		far = fmt.Sprintf("[%s of about %s] ", time.Since(b.began).Round(time.Second), b.cfg.Total.Round(time.Minute))
	}
	b.say("%s%s %s, run %d: %.4g %s, limit %.4g, ratio %.3f, p50 %.2f ms, p99 %.2f ms, server %.1f µs/op%s", far, r.Workload, r.Case, r.Run, r.Rate,
		r.Unit, r.Limit, r.Ratio, r.Latency.P50, r.Latency.P99, r.CPU.Server, verdict)
}

// actor is a device that may call.
type actor struct{ user, device, token string }

// parallel is how many calls prepare a workload at the same time.
const parallel = 16

// each calls f for 0..n-1 from a few goroutines, each with a connection of its own, and returns the first errors.
func (b *Bench) each(ctx context.Context, n, goroutines int, f func(ctx context.Context, c *load.Caller, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(goroutines, n) {
		all.Go(func() {
			c := load.NewCaller(b.stack.Addr())
			defer c.Close()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, c, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// actors makes n devices, each of a user of its own.
func (b *Bench) actors(ctx context.Context, n int) ([]actor, error) {
	b.serial++
	out := make([]actor, n)
	err := b.each(ctx, n, parallel, func(ctx context.Context, c *load.Caller, i int) error {
		a := actor{user: fmt.Sprintf("%s-%d-%d", b.prefix, b.serial, i), device: "d0"}
		var res parleyv1.CreateTokenResponse
		err := c.Call(ctx, b.stack.AdminKey(), "AdminService/CreateToken", &parleyv1.CreateTokenRequest{UserId: a.user, DeviceId: a.device}, &res)
		a.token = res.GetToken()
		out[i] = a
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make devices: %w", err)
	}
	return out, nil
}

// maxAdded is how many members one call may add.
const maxAdded = 1000

// group makes a group of owner and members and returns its id and head.
func group(ctx context.Context, c *load.Caller, owner actor, members []actor) (id string, head int64, err error) {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.user
	}
	first := ids[:min(len(ids), maxAdded)]
	var made parleyv1.CreateSessionResponse
	err = c.Call(ctx, owner.token, "SessionService/CreateSession",
		&parleyv1.CreateSessionRequest{Group: &parleyv1.Group{Title: "bench"}, MemberIds: first}, &made)
	id = made.GetSession().GetSessionId()
	head = made.GetSession().GetHeadSeq()
	for rest := ids[len(first):]; err == nil && len(rest) > 0; {
		n := min(len(rest), maxAdded)
		var added parleyv1.AddMembersResponse
		err = c.Call(ctx, owner.token, "SessionService/AddMembers", &parleyv1.AddMembersRequest{SessionId: id, UserIds: rest[:n]}, &added)
		head = added.GetSeq()
		rest = rest[n:]
	}
	return id, head, err
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failures counts what went wrong and keeps the first words of it. It is safe for concurrent use.
type failures struct {
	mu    sync.Mutex
	count int64
	said  []string
}

const maxSaid = 5

func (f *failures) add(n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count += n
	if len(f.said) < maxSaid {
		f.said = append(f.said, err.Error())
	}
}

// err is nil where nothing failed.
func (f *failures) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == 0 {
		return nil
	}
	return fmt.Errorf("%d operations failed: %s", f.count, strings.Join(f.said, "; "))
}

func (f *failures) into(r *report.Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Failed += f.count
	r.Problems = append(r.Problems, f.said...)
}

// PrepareDescriptors raises the limit on open files to what is permitted and fails if that is less than n.
func PrepareDescriptors(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	want := limit
	want.Cur = max(want.Max, uint64(n)) //nolint:gosec // a count
	want.Max = want.Cur
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return nil
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Max < uint64(n) { //nolint:gosec // a count
		return errors.New("this workload needs " + strconv.Itoa(n) + " open files, and " + strconv.FormatUint(limit.Max, 10) +
			" are permitted: raise the limit (ulimit -Hn), or use a smaller scale")
	}
	return nil
}
