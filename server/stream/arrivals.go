package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/parley-im/parley/server/refusal"
)

// Bounds of what is asked for devices that come back.
const (
	// maxAsks is how many devices one statement answers at most.
	maxAsks = 64
	// maxAskFlights is how many such statements are under way at the same time: enough to keep PostgreSQL busy, few
	// enough to leave it to the senders.
	maxAskFlights = 3
	// askTimeout bounds one statement.
	askTimeout = 10 * time.Second
)

// arrivals gathers the questions of devices that come back, so that a reconnect storm is answered by few statements: each
// flight takes what waits, with no artificial delay, and while it is under way the next ones gather. A caller may leave
// without failing the others. Flights are goroutines of arrivals; close waits for them.
type arrivals struct {
	starter Starter
	most    int           // devices that may wait; more are refused
	spread  time.Duration // over which refused devices are asked to come back
	metrics *Metrics
	wg      sync.WaitGroup

	mu      sync.Mutex
	waiting []*arrival
	flights int
	closed  bool
}

// arrival is one device that waits. start and err are written before done is closed and read after.
type arrival struct {
	ctx   context.Context
	ask   Ask
	done  chan struct{}
	start Start
	err   error
}

// get asks for one device, together with all that ask at the same time. Errors: OVERLOADED, DEVICE_REVOKED, those of the
// Starter, and the context's.
func (a *arrivals) get(ctx context.Context, ask Ask) (Start, error) {
	w := &arrival{ctx: ctx, ask: ask, done: make(chan struct{})}
	if err := a.put(w); err != nil {
		return Start{}, err
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		return Start{}, ctx.Err()
	}
	if w.err == nil && !w.start.Known {
		w.err = refusal.New(refusal.DeviceRevoked, "This device was revoked or never registered.")
	}
	return w.start, w.err
}

func (a *arrivals) put(w *arrival) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return comeBack(refusal.ShuttingDown, "This node is going down; reconnect and resume.", 0, a.spread)
	case len(a.waiting) >= a.most:
		return comeBack(refusal.Overloaded, "Too many devices come back at once; reconnect and resume later.", time.Second, a.spread)
	}
	a.waiting = append(a.waiting, w)
	if a.flights < maxAskFlights {
		a.flights++
		a.wg.Go(a.fly)
	}
	return nil
}

// comeBack asks devices to come back, each after a time of its own.
func comeBack(why refusal.Reason, text string, least, spread time.Duration) error {
	after := least + time.Duration(rand.Int64N(int64(spread))) //nolint:gosec // only spreads load
	return refusal.New(why, text, "retry_after_ms", strconv.FormatInt(after.Milliseconds()+1, 10))
}

// fly answers batch after batch until nobody waits.
func (a *arrivals) fly() {
	for {
		batch := a.take()
		if len(batch) == 0 {
			return
		}
		a.answer(batch)
		for _, w := range batch {
			close(w.done)
		}
	}
}

// take returns the next batch, passing over those who have left. The flight has ended when it is empty.
func (a *arrivals) take() (batch []*arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, w := range a.waiting {
		if len(batch) == maxAsks {
			break
		}
		n++
		if w.ctx.Err() == nil {
			batch = append(batch, w)
		}
	}
	rest := copy(a.waiting, a.waiting[n:])
	clear(a.waiting[rest:])
	a.waiting = a.waiting[:rest]
	if len(batch) == 0 {
		a.flights--
		a.waiting = nil
	}
	return batch
}

// answer asks for a batch. What fails a batch of several for any other reason than that the store cannot be reached is
// asked one by one, so that no device fails the others.
func (a *arrivals) answer(batch []*arrival) {
	asks := make([]Ask, len(batch))
	for i, w := range batch {
		asks[i] = w.ask
	}
	// The batch belongs to many callers, each of whom may leave.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(batch[0].ctx), askTimeout)
	defer cancel()
	a.metrics.asked(len(batch))
	starts, err := a.starter.Starts(ctx, asks)
	if err == nil && len(starts) != len(batch) {
		err = errors.New("a device was not answered")
	}
	if _, refused := refusal.Of(err); err != nil && !refused && len(batch) > 1 && ctx.Err() == nil {
		for i := range batch {
			a.answer(batch[i : i+1])
		}
		return
	}
	for i, w := range batch {
		if w.err = err; err == nil {
			w.start = starts[i]
		}
	}
}

// Waiting is how many devices wait for their turn.
func (a *arrivals) Waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// close refuses what comes later and waits for the flights.
func (a *arrivals) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.wg.Wait()
}
