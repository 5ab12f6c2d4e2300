package app

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

// Whoever reaches the API may ask for health, so asking must not be a way to take PostgreSQL's connections from others.
func TestHealthAsksPostgresOnceHoweverManyAsk(t *testing.T) {
	t.Parallel()
	clock := clockwork.NewFakeClock()
	var asked atomic.Int64
	var fault atomic.Pointer[error]
	begun, answer := make(chan struct{}), make(chan struct{})
	h := newHealth(func(ctx context.Context) error {
		if asked.Add(1) == 1 {
			close(begun)
			<-answer
			return context.Cause(ctx) // who asked first has left, others wait: this is nil
		}
		if err := fault.Load(); err != nil {
			return *err
		}
		return nil
	}, func() time.Duration { return 0 }, clock)
	h.setServing(true)

	leaving, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { h.reason(leaving) })
	<-begun
	var whys [50]string
	for i := range whys {
		all.Go(func() { whys[i] = h.reason(t.Context()) })
	}
	leave()
	close(answer)
	all.Wait()
	require.Equal(t, [50]string{}, whys)
	require.EqualValues(t, 1, asked.Load())

	away := errors.New("away")
	fault.Store(&away)
	require.Empty(t, h.reason(t.Context()), "as remembered")
	clock.Advance(pingMemory)
	require.Equal(t, "PostgreSQL does not answer", h.reason(t.Context()))
	require.Equal(t, "PostgreSQL does not answer", h.reason(t.Context()))
	require.EqualValues(t, 2, asked.Load(), "that it does not answer is remembered too")
	fault.Store(nil)
	clock.Advance(pingMemory)
	require.Empty(t, h.reason(t.Context()))
	h.setServing(false)
	require.Equal(t, "starting or shutting down", h.reason(t.Context()), "what the node knows itself is not remembered")
	require.EqualValues(t, 3, asked.Load())
}

func TestHealthKnowsAFeedThatIsBehind(t *testing.T) {
	t.Parallel()
	var age atomic.Int64
	h := newHealth(func(context.Context) error { return nil }, func() time.Duration { return time.Duration(age.Load()) }, clockwork.NewFakeClock())
	h.setServing(true)
	age.Store(int64(maxFeedAge))
	require.Empty(t, h.reason(t.Context()))
	age.Store(int64(maxFeedAge + 1))
	require.Equal(t, "the feed is behind", h.reason(t.Context()))
}
