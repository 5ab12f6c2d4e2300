package device_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/device"
)

// sightings is a store in memory that can be down.
type sightings struct {
	mu      sync.Mutex
	at      map[string]time.Time
	numbers map[string]int64
	calls   int
	down    bool
}

func (s *sightings) SetSeen(_ context.Context, users, devices []string, numbers []int64, at []time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.down {
		return errors.New("away")
	}
	for i := range at {
		s.at[users[i]+"/"+devices[i]] = at[i]
		s.numbers[users[i]+"/"+devices[i]] = numbers[i]
	}
	return nil
}

func (s *sightings) state() (calls, known int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, len(s.at)
}

// Thousands of devices that come online cost one statement per interval, not one each, and what cannot be written is kept:
// of each device the newest stream.
func TestSightingsAreWrittenTogether(t *testing.T) {
	store := &sightings{at: map[string]time.Time{}, numbers: map[string]int64{}, down: true}
	clock := clockwork.NewFakeClock()
	s := device.NewSightings(store, clock, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	require.NoError(t, clock.BlockUntilContext(ctx, 1))
	for i := range 2000 {
		s.Seen("u"+strconv.Itoa(i), "d", int64(2*i+2))
		s.Seen("u"+strconv.Itoa(i), "d", int64(2*i+1))
	}
	clock.Advance(device.SeenInterval)
	require.Eventually(t, func() bool { calls, _ := store.state(); return calls == 1 }, time.Minute, time.Millisecond)
	store.mu.Lock()
	store.down = false
	store.mu.Unlock()
	s.Seen("late", "d", 1)
	cancel()
	<-done // it writes what is left
	calls, known := store.state()
	require.Equal(t, 2001, known)
	require.Equal(t, 2, calls)
	require.EqualValues(t, 4000, store.numbers["u1999/d"])
}
