package stream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
)

// A statement has a time of its own, and a busy machine may take longer: the tests here are in virtual time.

// gate holds statements back until it is opened, and notes how many devices each answers.
type gate struct {
	open    chan struct{}
	started chan struct{} // one for each statement

	mu      sync.Mutex
	batches []int
	now     int
	most    int
}

func newGate() *gate { return &gate{open: make(chan struct{}), started: make(chan struct{}, 100_000)} }

func (g *gate) pass(ctx context.Context, asks []stream.Ask) error {
	g.mu.Lock()
	g.batches = append(g.batches, len(asks))
	g.now++
	g.most = max(g.most, g.now)
	g.mu.Unlock()
	g.started <- struct{}{}
	defer func() {
		g.mu.Lock()
		g.now--
		g.mu.Unlock()
	}()
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pull asks for n devices' backlogs at once and returns their errors when all are answered.
func pull(ctx context.Context, w *world, from, n int) func() []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, errs[i] = w.mgr.Pull(ctx, stream.Caller{UserID: fmt.Sprintf("u%d", from+i), DeviceID: "d"}, stream.Mark{}, 10)
		})
	}
	return func() []error { wg.Wait(); return errs }
}

// busy makes three devices come one after another, each in a statement of its own that the gate holds back: nobody waits
// for others without need.
func busy(t *testing.T, w *world, g *gate) func() []error {
	var all []func() []error
	for i := range 3 {
		all = append(all, pull(t.Context(), w, i, 1))
		<-g.started
	}
	return func() (errs []error) {
		for _, each := range all {
			errs = append(errs, each()...)
		}
		return errs
	}
}

// A storm of devices is answered by few statements of bounded size, few of them at a time.
func TestReturningDevicesShareStatements(t *testing.T) {
	synctest.Test(t, returningDevicesShareStatements)
}

func returningDevicesShareStatements(t *testing.T) {
	w := newWorld(t, stream.Config{})
	g := newGate()
	w.starts = g.pass
	first := busy(t, w, g)
	rest := pull(t.Context(), w, 3, 640)
	require.Eventually(t, func() bool { return w.mgr.StartsWaiting() == 640 }, time.Minute, time.Millisecond)
	close(g.open)
	require.NoError(t, errors.Join(first()...))
	require.NoError(t, errors.Join(rest()...))
	total := 0
	for _, n := range g.batches {
		require.LessOrEqual(t, n, 64)
		total += n
	}
	require.Equal(t, 643, total, "each device is asked for once")
	require.LessOrEqual(t, len(g.batches), 3+10+3)
	require.LessOrEqual(t, g.most, 3)
}

// Who leaves while waiting is not asked for, and who leaves a statement under way does not fail those that share it.
func TestReturningDevicesMayLeave(t *testing.T) { synctest.Test(t, returningDevicesMayLeave) }

func returningDevicesMayLeave(t *testing.T) {
	w := newWorld(t, stream.Config{})
	g := newGate()
	w.starts = g.pass
	first := busy(t, w, g)
	ctx, leave := context.WithCancel(t.Context())
	gone := pull(ctx, w, 100, 10)
	stay := pull(t.Context(), w, 200, 10)
	require.Eventually(t, func() bool { return w.mgr.StartsWaiting() == 20 }, time.Minute, time.Millisecond)
	leave()
	for _, err := range gone() {
		require.ErrorIs(t, err, context.Canceled)
	}
	close(g.open)
	require.NoError(t, errors.Join(first()...))
	require.NoError(t, errors.Join(stay()...))
	total := 0
	for _, n := range g.batches {
		total += n
	}
	require.Equal(t, 13, total)
}

// Past the bound devices are told to come back, each after a time of its own, and those that wait are served.
func TestReconnectStormIsRefusedPastTheBound(t *testing.T) {
	synctest.Test(t, reconnectStormIsRefusedPastTheBound)
}

func reconnectStormIsRefusedPastTheBound(t *testing.T) {
	w := newWorld(t, stream.Config{Arrivals: 200})
	g := newGate()
	w.starts = g.pass
	first := busy(t, w, g)
	waiting := pull(t.Context(), w, 3, 200)
	require.Eventually(t, func() bool { return w.mgr.StartsWaiting() == 200 }, time.Minute, time.Millisecond)
	for _, err := range pull(t.Context(), w, 100_000, 20)() {
		var e *refusal.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, refusal.Overloaded, e.Reason)
		require.NotEmpty(t, e.Meta["retry_after_ms"])
	}
	close(g.open)
	require.NoError(t, errors.Join(first()...))
	require.NoError(t, errors.Join(waiting()...))
}

// A device that spoils its statement spoils no other's; a store that is away answers nobody, and is not asked again.
func TestOneDeviceDoesNotFailTheOthers(t *testing.T) { synctest.Test(t, oneDeviceDoesNotFailTheOthers) }

func oneDeviceDoesNotFailTheOthers(t *testing.T) {
	w := newWorld(t, stream.Config{})
	g := newGate()
	away := false
	var calls int
	w.starts = func(ctx context.Context, asks []stream.Ask) error {
		if err := g.pass(ctx, asks); err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		calls++
		if away {
			return refusal.New(refusal.Unavailable, "away")
		}
		for _, a := range asks {
			if a.UserID == "u105" {
				return errors.New("cannot be asked for")
			}
		}
		return nil
	}
	first := busy(t, w, g)
	many := pull(t.Context(), w, 100, 30)
	require.Eventually(t, func() bool { return w.mgr.StartsWaiting() == 30 }, time.Minute, time.Millisecond)
	close(g.open)
	require.NoError(t, errors.Join(first()...))
	for i, err := range many() {
		require.Equal(t, i == 5, err != nil, "%d: %v", i, err)
	}
	away, calls = true, 0
	for _, err := range pull(t.Context(), w, 0, 1)() {
		why, _ := refusal.Of(err)
		require.Equal(t, refusal.Unavailable, why)
	}
	require.Equal(t, 1, calls)
}
