package statecache_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
)

const crowd = 1000

// stampede has a crowd read one key on two nodes, whose pauses end when the clock is moved.
type stampede struct {
	*world
	clock *clockwork.FakeClock
	reads *counting
	nodes [2]*node
	done  atomic.Int64
	all   sync.WaitGroup
}

func newStampede(t *testing.T) *stampede {
	url, epoch := testenv.Redis(t)
	s := &stampede{world: newWorld(t, epoch, 1, 1), clock: clockwork.NewFakeClock()}
	s.reads = &counting{Store: s.truth, gate: make(chan struct{})}
	for i := range s.nodes {
		s.nodes[i] = s.node(t, url, options{clock: s.clock, lease: 10 * time.Minute, reads: s.reads})
	}
	// A node trusts nothing that is as old as itself; and both nodes' tickers are waiters of the clock too.
	s.clock.Advance(time.Second)
	s.waiting(t, 0)
	return s
}

func (s *stampede) start(t *testing.T) {
	for i := range crowd {
		s.all.Go(func() {
			defer s.done.Add(1)
			kept, err := s.nodes[i%len(s.nodes)].store.Kept(t.Context(), s.users[0], whole(s.sessions))
			if err != nil || len(kept) != 1 {
				t.Error(kept, err)
			}
		})
	}
}

// waiting returns when n readers wait for the clock.
func (s *stampede) waiting(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.clock.BlockUntilContext(ctx, n+len(s.nodes)), "not %d readers wait", n)
}

// letOneRead lets who waits for PostgreSQL read from it.
func (s *stampede) letOneRead(t *testing.T) {
	t.Helper()
	select {
	case s.reads.gate <- struct{}{}:
	case <-time.After(time.Minute):
		require.Fail(t, "nobody reads from PostgreSQL")
	}
}

// Of a thousand readers of a missing key, on two nodes, one goes to PostgreSQL; all others wait for what it stores.
func TestOneOfACrowdReadsPostgres(t *testing.T) {
	s := newStampede(t)
	s.start(t)
	s.waiting(t, crowd-1)
	require.Zero(t, s.done.Load())
	s.letOneRead(t)
	require.Eventually(t, func() bool { return s.done.Load() == 1 }, time.Minute, time.Millisecond)
	s.clock.Advance(time.Second)
	s.all.Wait()
	require.EqualValues(t, 1, s.reads.n.Load())
}

// Where the holder of the lease has died, one of the crowd takes over after the first round of pauses, long before the
// lease ends, and again only one goes to PostgreSQL.
func TestACrowdOutlivesTheHolderOfTheLease(t *testing.T) {
	s := newStampede(t)
	dead := statecache.Ask{Key: state.Key{UserID: s.users[0], SessionID: s.sessions[0]}, Lease: "dead"}
	got, err := s.nodes[0].cache.Get(t.Context(), []statecache.Ask{dead}, -1)
	require.NoError(t, err)
	require.True(t, got[0].Leased)

	s.start(t)
	for range 5 {
		s.waiting(t, crowd)
		require.Zero(t, s.reads.n.Load())
		s.clock.Advance(150 * time.Millisecond)
	}
	s.waiting(t, crowd)
	s.clock.Advance(150 * time.Millisecond)
	s.waiting(t, crowd-1)
	s.letOneRead(t)
	require.Eventually(t, func() bool { return s.done.Load() == 1 }, time.Minute, time.Millisecond)
	s.clock.Advance(time.Second)
	s.all.Wait()
	require.EqualValues(t, 1, s.reads.n.Load())

	stored, err := s.nodes[0].cache.Fill(t.Context(), []statecache.Fill{{Key: dead.Key, Lease: dead.Lease, Value: "late"}})
	require.NoError(t, err)
	require.Zero(t, stored, "the lease of the dead is void")
}

// Without Redis a crowd shares flights: one that has left, and one that waits for it.
func TestACrowdSharesFlightsWithoutRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := &counting{Store: nowhere{}, gate: make(chan struct{})}
		store := statecache.New(reads, nil, nil, statecache.Config{}, clockwork.NewRealClock(), nil)
		var all sync.WaitGroup
		for range crowd {
			all.Go(func() {
				if _, err := store.Kept(t.Context(), "ann", whole([]uuid.UUID{{1}})); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // all of them wait, each for the one flight or the other
		close(reads.gate)
		all.Wait()
		require.EqualValues(t, 2, reads.n.Load())
	})
}

// nowhere is a store that has nothing.
type nowhere struct{ state.Store }

func (nowhere) Kept(context.Context, string, []message.Range) ([]state.Kept, error) { return nil, nil }
