package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/e2e/rig"
)

// honest is users who send and listen, each from an address of their own, at a pace that no answer changes.
type honest struct {
	t       *testing.T
	s       *rig.Server
	senders []*rig.Client
	devices []*rig.Device
	group   string
	sent    int64
}

// startHonest makes users who are in one group and hear what is sent to it.
func startHonest(t *testing.T, s *rig.Server, users int) *honest {
	h := &honest{t: t, s: s}
	var names []string
	for n := range users {
		names = append(names, fmt.Sprint("honest", n))
		opts := [][]connect.ClientOption{nil, {rig.H2}}[n%2]
		sender, device := s.Client(names[n], "sends", opts...), s.NewDevice(names[n], "hears", opts...)
		for _, c := range []*rig.Client{sender, device.Client} {
			tr, ok := c.HTTP.Transport.(*http.Transport)
			require.True(t, ok)
			tr.DialContext, tr.MaxConnsPerHost = address(2, n+1).DialContext, 16
		}
		h.senders, h.devices = append(h.senders, sender), append(h.devices, device)
	}
	h.group = h.senders[0].Group(t.Context(), names[1:]...)
	h.sent = 1
	for _, d := range h.devices {
		d.Connect()
		d.WaitCaughtUp(1)
	}
	return h
}

// phase is what was seen while honest users were at it for a while.
type phase struct {
	took       []time.Duration // each answer, from when it was to be sent
	load       float64         // processors that the server took
	memory     float64         // bytes that it had at most
	goroutines float64         // that it had at most
}

// run sends rate messages a second, all users together, and returns when all of them are answered.
func (h *honest) run(rate int, during time.Duration) (p phase) {
	var all, samples sync.WaitGroup
	start, cpu, done := time.Now(), h.s.Metric("process_cpu_seconds_total"), make(chan struct{})
	samples.Go(func() {
		for {
			p.memory = max(p.memory, h.s.Metric("process_resident_memory_bytes"))
			p.goroutines = max(p.goroutines, h.s.Metric("go_goroutines"))
			select {
			case <-done:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	count := int(during.Seconds() * float64(rate))
	p.took = make([]time.Duration, count)
	for n := range count {
		due := start.Add(time.Duration(n) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(due))
		all.Go(func() {
			if _, err := h.senders[n%len(h.senders)].Messages.SendMessage(h.t.Context(), rig.To(h.group, "x")); err != nil {
				h.t.Errorf("an honest user was refused: %v", err)
			}
			p.took[n] = time.Since(due)
		})
	}
	all.Wait()
	close(done)
	samples.Wait()
	h.sent += int64(count)
	p.load = (h.s.Metric("process_cpu_seconds_total") - cpu) / time.Since(start).Seconds()
	return p
}

// While one address abuses HTTP as it can, others' sends go on: none fails, all devices are shown all of them, and the server
// stays within its bounds. In the long form their p99 is at most twice that of the same run's quiet phases, which lie between
// the others.
func TestHonestUsersUnderAbuse(t *testing.T) {
	const workers = 4
	rate, during := size(40, 40, 300), size(500*time.Millisecond, time.Second, scaled(10*time.Second))
	s := rig.Start(t, "PARLEY_TRUSTED_PROXIES=127.0.0.1", "PARLEY_RATE_CALLS_IP=200/s:400", "PARLEY_MAX_CONNS_IP=100")
	h := startHonest(t, s, 4)
	token := s.Token("mallory", "m1")
	h.run(rate, during) // warm
	var lines []string
	report(t, "B6", fmt.Sprintf("gzip bombs, rapid reset, CONTINUATION floods and slow prefaces, %d at a time from one address, beside %d honest msg/s", workers, rate),
		"0 honest sends fail, 0 lost, 0 out of order; p99 <= 2x quiet; the server's memory and goroutines bounded",
		func() string { return strings.Join(lines, "; ") })
	for kind, a := range abuses {
		var quiet, abused side
		var seen tally
		// Where the medians are not as they must be, more rounds tell whether that was the machine.
		for round := 1; round <= size(1, 1, 5) || soaking() && abused.p99() > 2*quiet.p99() && round <= 15; round++ {
			quiet.add(h.run(rate, during))
			refused := s.MetricWith("parley_connections_refused_total", `limit="`+a.refused+`"`)
			// From an address that has done nothing yet: what was done before lets it in less.
			abuser := startAbuser(t, order{Name: a.name, Addr: strings.TrimPrefix(s.URL, "http://"), Token: token, Net: 10 + kind, Host: round, Workers: workers})
			come := func() bool {
				// On a busy machine bombs may come no faster than their address may send, and nothing is to be refused.
				if a.refused == "" || a.name == gzipBombs.name && !soaking() {
					return abuser.seen().Units > 0
				}
				return s.MetricWith("parley_connections_refused_total", `limit="`+a.refused+`"`) > refused
			}
			for end := time.Now().Add(2 * time.Minute); ; { // on a busy machine it may take a while until the abuse has come to what it can
				abused.add(h.run(rate, during))
				if come() {
					break
				}
				require.True(t, time.Now().Before(end), "%s: the server did not feel it", a.name)
			}
			seen.add(abuser.stop())
		}
		lines = append(lines, fmt.Sprintf("%s (%d, over %d connections): p99 %s quiet, %s meanwhile (medians of %d phases of %d), the server takes %.0f %% of a processor, %.0f %% meanwhile, at most %.0f goroutines, %.0f, and %.0f MiB, %.0f",
			a.name, seen.Units, seen.Connections, quiet.p99().Round(100*time.Microsecond), abused.p99().Round(100*time.Microsecond), len(quiet.p99s), len(quiet.took),
			100*quiet.share(), 100*abused.share(), quiet.goroutines, abused.goroutines, quiet.memory/(1<<20), abused.memory/(1<<20)))
		t.Log(lines[len(lines)-1], quiet.p99s, abused.p99s)
		// A connection has a goroutine or three, and one for each of the at most 1,000 calls that it may carry.
		require.LessOrEqual(t, abused.goroutines, quiet.goroutines+3*100+workers*1000, a.name)
		if raceDetector == "off" {
			require.LessOrEqual(t, abused.memory, quiet.memory+64*(1<<20), a.name)
			most := 0.5 // a short form's second is the abuser's first, in which the address has all that it may have at once
			if soaking() {
				most = 0.25 // bombs took 0.35 when those who went on with them kept their connections
			}
			require.Less(t, abused.share()-quiet.share(), most, "%s: processors' time of the server", a.name)
		}
		if soaking() && abused.p99() > 2*quiet.p99() {
			t.Errorf("%s: the p99 is more than twice the quiet one: %v against %v", a.name, abused.p99s, quiet.p99s)
		}
	}
	for _, d := range h.devices {
		d.WaitSeq(h.group, h.sent)
		require.Equal(t, upTo(h.sent), d.Seqs(h.group), d.User)
	}
	requireNoProblems(t, h.devices...)
}

// side is what was seen in all phases of one sort.
type side struct {
	phase
	p99s  []time.Duration
	loads float64
}

func (s *side) add(p phase) {
	s.p99s, s.loads = append(s.p99s, quantile(p.took, 0.99)), s.loads+p.load
	s.took, s.memory, s.goroutines = p.took, max(s.memory, p.memory), max(s.goroutines, p.goroutines)
}

// p99 is the median of the phases' p99s: what else this machine did in one of them does not move it.
func (s *side) p99() time.Duration { return quantile(s.p99s, 0.5) }

// share is how many processors the server took.
func (s *side) share() float64 { return s.loads / float64(len(s.p99s)) }
