package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// reason is the reason detail of an error, without its prefix; empty if there is none.
func reason(err error) string {
	detail := detailOf(err)
	if detail == nil {
		return ""
	}
	return detail.GetReason().String()[len("ERROR_REASON_"):]
}

// load is many senders that repeat a send under the same id until it is answered, as an SDK's outbox does.
type load struct {
	mu     sync.Mutex
	acked  map[string]map[int64]string // session -> seq -> message id
	codes  map[connect.Code]int
	tried  int
	first  int
	late   int                 // sends that failed while the machine kept everything from going on: they are not among codes
	lag    atomic.Pointer[lag] // nil: every send that failed counts
	cancel context.CancelFunc
	wg     sync.WaitGroup
	pace   time.Duration          // between a sender's sends
	before func(messageID string) // told of each send; may be nil
}

func startLoad(t *testing.T, senders []*rig.Device, ids []string) *load {
	return startPaced(t, senders, ids, 0, nil)
}

// startPaced makes each sender send at a pace to one of the sessions at random, or what choose says, which is called by each
// sender's goroutine with the sender's number.
func startPaced(t *testing.T, senders []*rig.Device, ids []string, pace time.Duration, before func(string),
	choose ...func(n int, rnd *rand.Rand) (*rig.Device, string),
) *load {
	l := &load{acked: map[string]map[int64]string{}, codes: map[connect.Code]int{}, pace: pace, before: before}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	t.Cleanup(l.stop)
	for w, d := range senders {
		l.wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(w))) //nolint:gosec // a test
			for n := 0; ctx.Err() == nil; n++ {
				from := d
				var to string
				if len(choose) > 0 {
					from, to = choose[0](w, rnd)
				} else {
					to = ids[rnd.IntN(len(ids))]
				}
				l.send(ctx, t, from, rig.To(to, fmt.Sprintf("%d-%d", w, n)))
				time.Sleep(l.pace)
			}
		})
	}
	return l
}

// mostOpen is how many sends of an open load may wait for their answers: enough for 300 a second with answers that take 1 s, and
// few enough to be answered in time on a machine that is busy with anything.
const mostOpen = 300

// startOpen sends so many messages a second, each at its time and by a goroutine of its own, however long the answers to the
// others take: by the senders in turn, each to its own session. What could not be sent at its time, since the machine was busy
// or mostOpen sends wait, is sent as soon as it can be.
func startOpen(t *testing.T, senders []*rig.Device, ids []string, rate int) *load {
	l := &load{acked: map[string]map[int64]string{}, codes: map[connect.Code]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	t.Cleanup(l.stop)
	room := make(chan struct{}, mostOpen)
	l.wg.Go(func() {
		began := time.Now()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate)))):
			}
			select {
			case <-ctx.Done():
				return
			case room <- struct{}{}:
			}
			l.wg.Go(func() {
				l.send(ctx, t, senders[n%len(senders)], rig.To(ids[n%len(ids)], fmt.Sprint(n)))
				<-room
			})
		}
	})
	return l
}

// inTurn chooses, for each of so many workers, one of the senders that are its own, at random, and that sender's group.
func inTurn(senders []*rig.Device, groups []string, workers int) func(int, *rand.Rand) (*rig.Device, string) {
	return func(worker int, r *rand.Rand) (*rig.Device, string) {
		g := r.IntN(len(senders)/workers)*workers + worker
		return senders[g], groups[g]
	}
}

func (l *load) send(ctx context.Context, t *testing.T, d *rig.Device, req *parleyv1.SendMessageRequest) {
	if l.before != nil {
		l.before(req.GetMessageId())
	}
	for try, first := 0, time.Now(); ; try++ {
		call, cancel := context.WithTimeout(rig.Once(context.WithoutCancel(ctx)), patience)
		began := time.Now()
		res, err := d.Messages.SendMessage(call, req)
		cancel()
		l.mu.Lock()
		// Where nothing went on, meanwhile or a moment before, it says nothing about the server.
		if err != nil && l.lag.Load().since(began.Add(-time.Second)) > time.Since(began)/2 && time.Since(first) < 2*patience {
			l.late++
			l.mu.Unlock()
			try--
			time.Sleep(20 * time.Millisecond)
			continue
		}
		l.tried++
		if err == nil {
			if try == 0 {
				l.first++
			}
			d.Sent(res.GetSessionId(), res.GetSeq())
			m := l.acked[res.GetSessionId()]
			if m == nil {
				m = map[int64]string{}
				l.acked[res.GetSessionId()] = m
			}
			if was, ok := m[res.GetSeq()]; ok && was != req.GetMessageId() {
				t.Errorf("seq %d of %s was given to two messages", res.GetSeq(), res.GetSessionId())
			}
			m[res.GetSeq()] = req.GetMessageId()
			l.mu.Unlock()
			return
		}
		l.codes[connect.CodeOf(err)]++
		l.mu.Unlock()
		if time.Since(first) > 2*patience {
			t.Errorf("send not answered after %d tries in %s: %v", try, time.Since(first), err)
			return
		}
		time.Sleep(20 * time.Millisecond) // back-off
	}
}

func (l *load) stop() { l.cancel(); l.wg.Wait() }

// check holds what devices were shown, and what is stored, against what was acknowledged. The devices' users are members since
// the first entry.
func (l *load) check(t *testing.T, reader *rig.Client, devices []*rig.Device, ids []string) {
	t.Helper()
	l.checkSince(t, reader, devices, ids, func(*rig.Device) int64 { return 1 })
}

// checkSince is check for devices that see a session from the seq on that first says.
func (l *load) checkSince(t *testing.T, reader *rig.Client, devices []*rig.Device, ids []string, first func(*rig.Device) int64) {
	t.Helper()
	for _, id := range ids {
		stored := map[int64]string{}
		after := int64(0)
		for {
			page, err := reader.Messages.ListMessages(t.Context(), &parleyv1.ListMessagesRequest{SessionId: id, Limit: 500,
				Position: &parleyv1.ListMessagesRequest_AfterSeq{AfterSeq: after}})
			require.NoError(t, err)
			for _, m := range page.GetMessages() {
				require.Equal(t, after+1, m.GetSeq(), "a hole")
				after = m.GetSeq()
				stored[after] = m.GetMessageId()
			}
			if !page.GetHasMore() {
				break
			}
		}
		seen := map[string]bool{}
		for _, mid := range stored {
			require.False(t, seen[mid], "a message is there twice")
			seen[mid] = true
		}
		for seq, mid := range l.acked[id] {
			require.Equal(t, mid, stored[seq], "an acknowledged message is not there")
		}
		for _, d := range devices {
			d.WaitSeq(id, after)
			require.Equal(t, upTo(after)[first(d)-1:], d.Seqs(id), "%s/%s", d.User, d.Device)
		}
	}
	requireNoProblems(t, devices...)
}

type scene struct {
	senders, watchers, all []*rig.Device
	ids                    []string
}

// newScene makes a few users with two devices each, all in the same groups; the first device of each sends.
func newScene(t *testing.T, s *rig.Server) scene {
	var sc scene
	names := []string{"u0", "u1", "u2", "u3"}
	for _, n := range names {
		sc.senders = append(sc.senders, s.NewDevice(n, "d0"))
		sc.watchers = append(sc.watchers, s.NewDevice(n, "d1"))
	}
	sc.all = append(append([]*rig.Device{}, sc.senders...), sc.watchers...)
	for range 3 {
		sc.ids = append(sc.ids, sc.senders[0].Group(t.Context(), names[1:]...))
	}
	for _, d := range sc.all {
		d.Patient = true
		d.Connect()
		d.WaitCaughtUp(1)
	}
	return sc
}

// refused is how many sends failed so far.
func (l *load) refused() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, times := range l.codes {
		n += times
	}
	return n
}

func (l *load) count() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.acked {
		n += len(m)
	}
	return n
}
