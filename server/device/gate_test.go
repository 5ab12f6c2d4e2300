package device_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/refusal"
)

// fakeAccess answers what it is told to. While hold is set, a question reports itself on asked and then waits for hold.
type fakeAccess struct {
	mu     sync.Mutex
	answer device.Access
	err    error
	n      int
	asked  chan struct{}
	hold   chan struct{}
}

func (f *fakeAccess) Access(ctx context.Context, _, _ string) (device.Access, error) {
	f.mu.Lock()
	answer, err, hold := f.answer, f.err, f.hold
	f.n++
	f.mu.Unlock()
	if hold != nil {
		f.asked <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
			return device.Access{}, ctx.Err()
		}
	}
	return answer, err
}

func (f *fakeAccess) set(answer device.Access, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer, f.err = answer, err
}

func (f *fakeAccess) holdOn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked, f.hold = make(chan struct{}, 8), make(chan struct{})
}

func (f *fakeAccess) letGo() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.hold)
	f.hold = nil
}

func (f *fakeAccess) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

var (
	allowed     = device.Access{Known: true}
	revoked     = device.Access{Known: true, Revoked: true}
	unknown     = device.Access{}
	deactivated = device.Access{Known: true, Deactivated: true}
)

func newGate() (*device.Gate, *fakeAccess, *clockwork.FakeClock) {
	store, clock := &fakeAccess{answer: allowed}, clockwork.NewFakeClock()
	return device.NewGate(store, clock), store, clock
}

func TestGateRemembersForASecond(t *testing.T) {
	g, store, clock := newGate()
	check := func() error { return g.Check(t.Context(), "alice", "phone") }
	require.NoError(t, check())
	store.set(revoked, nil)
	clock.Advance(device.GateMemory - 1)
	require.NoError(t, check())
	require.Equal(t, 1, store.count())
	clock.Advance(1)
	refused(t, check(), refusal.DeviceRevoked)
	refused(t, check(), refusal.DeviceRevoked)
	require.Equal(t, 2, store.count(), "revoking is for good, so it can be remembered")
	require.NoError(t, func() error { store.set(allowed, nil); return g.Check(t.Context(), "alice", "tablet") }())
}

// What may be over a moment later is not remembered: a device that registers, a user who is brought back.
func TestGateForgetsWhatMayPass(t *testing.T) {
	for want, answer := range map[refusal.Reason]device.Access{
		refusal.DeviceRevoked: unknown, refusal.UserDeactivated: deactivated,
	} {
		g, store, _ := newGate()
		store.set(answer, nil)
		refused(t, g.Check(t.Context(), "alice", "phone"), want)
		store.set(allowed, nil)
		require.NoError(t, g.Check(t.Context(), "alice", "phone"))
	}
}

func TestGateForget(t *testing.T) {
	g, store, _ := newGate()
	for _, who := range [][2]string{{"alice", "phone"}, {"alice", "tablet"}, {"bob", "phone"}} {
		require.NoError(t, g.Check(t.Context(), who[0], who[1]))
	}
	store.set(revoked, nil)
	g.Forget("alice", "phone")
	refused(t, g.Check(t.Context(), "alice", "phone"), refusal.DeviceRevoked)
	require.NoError(t, g.Check(t.Context(), "alice", "tablet"))
	g.ForgetUser("alice")
	refused(t, g.Check(t.Context(), "alice", "tablet"), refusal.DeviceRevoked)
	require.NoError(t, g.Check(t.Context(), "bob", "phone"))
}

// A question that began before Forget must not bring the old answer back, nor be joined by those who come after it.
func TestGateForgetVoidsQuestions(t *testing.T) {
	for name, forget := range map[string]func(*device.Gate){
		"device": func(g *device.Gate) { g.Forget("alice", "phone") },
		"user":   func(g *device.Gate) { g.ForgetUser("alice") },
	} {
		t.Run(name, func(t *testing.T) {
			g, store, _ := newGate()
			store.holdOn()
			before := make(chan error, 1)
			go func() { before <- g.Check(t.Context(), "alice", "phone") }()
			<-store.asked
			store.set(revoked, nil)
			forget(g)
			after := make(chan error, 1)
			go func() { after <- g.Check(t.Context(), "alice", "phone") }()
			<-store.asked
			store.letGo()
			require.NoError(t, <-before, "asked before it was revoked")
			refused(t, <-after, refusal.DeviceRevoked)
			refused(t, g.Check(t.Context(), "alice", "phone"), refusal.DeviceRevoked)
			require.Equal(t, 2, store.count())
		})
	}
}

// Time counts from before the question: a slow answer is old when it comes.
func TestGateCountsFromTheQuestion(t *testing.T) {
	g, store, clock := newGate()
	store.holdOn()
	got := make(chan error, 1)
	go func() { got <- g.Check(t.Context(), "alice", "phone") }()
	<-store.asked
	clock.Advance(device.GateMemory)
	store.letGo()
	require.NoError(t, <-got)
	require.NoError(t, g.Check(t.Context(), "alice", "phone"))
	require.Equal(t, 2, store.count())
}

func TestGateSharesQuestions(t *testing.T) {
	g, store, _ := newGate()
	store.holdOn()
	gone, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- g.Check(gone, "alice", "phone") }()
	<-store.asked
	const callers = 50
	got := make(chan error, callers)
	for range callers {
		go func() { got <- g.Check(t.Context(), "alice", "phone") }()
	}
	leave()
	require.ErrorIs(t, <-first, context.Canceled)
	store.letGo()
	for range callers {
		require.NoError(t, <-got, "one caller's leaving fails nobody else")
	}
	// Those who came after the answer found it remembered.
	require.Equal(t, 1, store.count())
}

func TestGateFaults(t *testing.T) {
	g, store, _ := newGate()
	down := refusal.New(refusal.Unavailable, "down")
	store.set(device.Access{}, down)
	refused(t, g.Check(t.Context(), "alice", "phone"), refusal.Unavailable)
	store.set(allowed, nil)
	require.NoError(t, g.Check(t.Context(), "alice", "phone"), "a fault is not remembered")

	// Who joined a question that failed asks once more.
	store.set(device.Access{}, errors.New("fault"))
	store.holdOn()
	got := make(chan error, 2)
	go func() { got <- g.Check(t.Context(), "bob", "phone") }()
	<-store.asked
	entered := make(chan struct{})
	joined := &signalled{Context: t.Context(), entered: entered}
	go func() { got <- g.Check(joined, "bob", "phone") }()
	<-entered // it waits for the answer now
	store.set(allowed, nil)
	store.letGo()
	errs := []error{<-got, <-got}
	if errs[0] == nil {
		errs[0], errs[1] = errs[1], errs[0]
	}
	require.Error(t, errs[0])
	require.NoError(t, errs[1])
}

// signalled is a context that tells when somebody starts to wait for its end.
type signalled struct {
	context.Context //nolint:containedctx // it is one
	once            sync.Once
	entered         chan struct{}
}

func (s *signalled) Done() <-chan struct{} {
	s.once.Do(func() { close(s.entered) })
	return s.Context.Done()
}

// Checks, forgetting and time run against each other: whoever asks after a revocation is refused.
func TestGateRaces(t *testing.T) {
	var mu sync.Mutex
	gone := map[string]bool{}
	clock := clockwork.NewRealClock()
	g := device.NewGate(accessFunc(func(user, dev string) device.Access {
		mu.Lock()
		defer mu.Unlock()
		return device.Access{Known: true, Revoked: gone[user+dev]}
	}), clock)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				dev := strconv.Itoa(j)
				user := strconv.Itoa(i / 2)
				_ = g.Check(t.Context(), user, dev)
				mu.Lock()
				gone[user+dev] = true
				mu.Unlock()
				if j%10 == 0 {
					g.ForgetUser(user)
				} else {
					g.Forget(user, dev)
				}
				if err := g.Check(t.Context(), user, dev); err == nil {
					t.Errorf("%s/%s was let in after it was revoked", user, dev)
				}
			}
		})
	}
	wg.Wait()
}

type accessFunc func(userID, deviceID string) device.Access

func (f accessFunc) Access(_ context.Context, userID, deviceID string) (device.Access, error) {
	return f(userID, deviceID), nil
}

func BenchmarkGateRemembered(b *testing.B) {
	g := device.NewGate(&fakeAccess{answer: allowed}, clockwork.NewFakeClock())
	users := make([]string, 1000)
	for i := range users {
		users[i] = "user-" + strconv.Itoa(i)
		require.NoError(b, g.Check(b.Context(), users[i], "phone"))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := g.Check(b.Context(), users[i%len(users)], "phone"); err != nil {
				b.Error(err)
			}
		}
	})
}
