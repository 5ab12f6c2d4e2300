package workload

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Step is a case of a workload with all its runs.
type Step struct {
	Workload, Case string
	Runs           int
	// Takes is about how long it takes on two processors, what it needs made first included.
	Takes time.Duration
}

// Rough times of preparing things, as they were on two processors: they are for telling how long a bench will take.
const (
	makeDevice    = 1500 * time.Microsecond // a user, a device and its place in a group
	connectDevice = 700 * time.Microsecond
	makeSession   = 5 * time.Millisecond
	makeBacklog   = 1200 * time.Millisecond // of a returning device, 100 sessions of 50
	startServer   = 2 * time.Second
	loadMillion   = 15 * time.Second // messages of W6, indexes included
	insertTries   = 3                // numbers of connections that the limit of W1 is tried with
)

// Plan returns what a bench of these workloads will run, in order. owned says whether the server is the bench's own.
// An error says that a workload does not exist or that no case is wanted.
func Plan(cfg Config, names []string, owned bool) ([]Step, error) {
	var steps []Step
	for _, name := range names {
		of := map[string]func(Config, bool) []Step{"W1": planW1, "W2": planW2, "W3": planW3, "W4": planW4, "W5": planW5, "W6": planW6}
		plan := of[strings.ToUpper(name)]
		if plan == nil {
			return nil, unknown(name)
		}
		first := true
		for _, s := range plan(cfg, owned) {
			if !cfg.wants(s.Workload, s.Case) {
				continue
			}
			s.Runs = cfg.Runs
			if first {
				s.Takes += cfg.prepares(s.Workload)
			}
			first = false
			steps = append(steps, s)
		}
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("no case of %s is called like that", strings.Join(names, ", "))
	}
	return steps, nil
}

// Sum is how long all steps take.
func Sum(steps []Step) (d time.Duration) {
	for _, s := range steps {
		d += s.Takes
	}
	return d
}

// wants reports whether a case is to be run.
func (c Config) wants(workload, name string) bool {
	return c.Cases == nil || c.Cases.MatchString(workload+" "+name)
}

// wantsAny reports whether any of a workload's cases is to be run.
func (c Config) wantsAny(workload string, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return c.wants(workload, name) })
}

// stretch is one measurement.
func (c Config) stretch() time.Duration { return c.Warmup + c.Duration }

// inserting is the limit of W1.
func (c Config) inserting() time.Duration { return insertTries * (c.Warmup/4 + c.Duration/2) }

// curve is what the parts of the highest rate take.
func (c Config) curve() time.Duration {
	if !c.Curves {
		return 0
	}
	return time.Duration(len(parts)) * c.stretch()
}

// prepares is what a workload needs once.
func (c Config) prepares(workload string) time.Duration {
	sc := c.Scale
	switch workload {
	case "W1":
		return time.Duration(sc.Sessions) * makeSession
	case "W3":
		return time.Duration(slices.Max(sc.Returning)) * makeBacklog
	case "W4":
		return time.Duration(sc.Idle) * makeDevice
	case "W5":
		return time.Duration(sc.SmallGroups*sc.SmallGroup)*makeDevice + time.Duration(sc.SmallGroups)*makeSession
	case "W6":
		loaded := time.Duration(slices.Max(sc.Grown)) * loadMillion / 1_000_000
		return loaded + c.stages(time.Duration(sc.Sessions)*makeSession+time.Duration(slices.Max(sc.Returning))*makeBacklog+startServer)
	default:
		return 0
	}
}

func (c Config) times(d time.Duration) time.Duration { return time.Duration(c.Runs) * d }

// stages is what something takes in all stages of W6: before anything is loaded, and after each load.
func (c Config) stages(d time.Duration) (sum time.Duration) {
	for range len(c.Scale.Grown) + 1 {
		sum += d
	}
	return sum
}

func caseW1(sc Scale, inFlight int) string {
	return fmt.Sprintf("%d senders x %d in flight", sc.Senders, inFlight)
}

func planW1(c Config, _ bool) (out []Step) {
	for _, n := range c.Scale.InFlight {
		out = append(out, Step{Workload: "W1", Case: caseW1(c.Scale, n), Takes: c.times(c.stretch()+c.inserting()) + c.curve()})
	}
	return out
}

// crowdOf is how many devices of a group of W2 are online: a group holds 10,000, senders and all.
func crowdOf(devices int) int { return min(devices, maxMembers-fanSenders) }

func caseSaturated(devices int) string { return fmt.Sprintf("%d devices, saturated", crowdOf(devices)) }

func casePaced(p Paced) string {
	return fmt.Sprintf("%d devices, %g messages/s", crowdOf(p.Devices), p.PerSec)
}

func planW2(c Config, _ bool) (out []Step) {
	for _, p := range c.Scale.Groups {
		connect := 2 * (time.Duration(p.Devices)*connectDevice + time.Second)
		made := time.Duration(p.Devices) * makeDevice
		out = append(out, Step{Workload: "W2", Case: caseSaturated(p.Devices), Takes: made + c.times(2*c.stretch()+connect) + c.curve()},
			Step{Workload: "W2", Case: casePaced(p), Takes: c.times(2 * c.stretch())})
	}
	return out
}

func caseW3(n int, tier string) string { return fmt.Sprintf("%d back at once, %s", n, tier) }

func planW3(c Config, owned bool) (out []Step) {
	tiers := []string{tierAsItIs}
	if owned {
		tiers = []string{tierWarm, tierCold, tierOff}
	}
	for _, tier := range tiers {
		for _, n := range c.Scale.Returning {
			takes := c.times(2 * c.stretch())
			if tier == tierWarm {
				takes += c.times(2*time.Second + 2*time.Duration(n)*30*time.Millisecond)
			}
			out = append(out, Step{Workload: "W3", Case: caseW3(n, tier), Takes: takes})
		}
	}
	return out
}

func caseW4(n int, protocol string) string { return fmt.Sprintf("%d idle, %s", n, protocol) }

func planW4(c Config, _ bool) (out []Step) {
	connect := time.Duration(c.Scale.Idle)*connectDevice + 2*time.Second
	for _, protocol := range []string{http11, http2} {
		out = append(out, Step{Workload: "W4", Case: caseW4(c.Scale.Idle, protocol), Takes: c.times(2*(c.stretch()+connect) + startServer)})
	}
	return out
}

func caseW5(sc Scale) string { return fmt.Sprintf("%d groups of %d", sc.SmallGroups, sc.SmallGroup) }

func planW5(c Config, _ bool) []Step {
	connect := 2 * time.Duration(c.Scale.SmallGroups*c.Scale.SmallGroup) * connectDevice
	return []Step{{Workload: "W5", Case: caseW5(c.Scale), Takes: c.times(2*c.stretch() + c.inserting() + connect)}}
}

func caseGrownSend(inFlight int) string { return fmt.Sprintf("W1 x %d in flight", inFlight) }

func caseGrownBack(sc Scale) string { return "W3 " + caseW3(slices.Max(sc.Returning), tierOff) }

func planW6(c Config, owned bool) (out []Step) {
	if !owned {
		return nil
	}
	for _, n := range c.Scale.InFlight {
		out = append(out, Step{Workload: "W6", Case: caseGrownSend(n), Takes: c.stages(c.times(c.stretch()))})
	}
	return append(out, Step{Workload: "W6", Case: caseGrownBack(c.Scale), Takes: c.stages(c.times(2*c.stretch() + 2*startServer))})
}
