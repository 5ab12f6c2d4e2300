package rate_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/rate"
	"github.com/parley-im/parley/server/refusal"
)

// memory is a board in memory, on the clock of the test.
type memory struct {
	clock clockwork.Clock
	mu    sync.Mutex
	paid  map[rate.Key]time.Time
	calls int
	down  bool
	fails int               // so many more calls fail
	late  int               // every how many-th answer is lost, though what was asked is done; 0: none
	away  map[rate.Key]bool // keys whose server is left alone
}

func (m *memory) Charge(_ context.Context, charges []rate.Charge) ([]time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.down || m.fails > 0 {
		m.fails--
		return nil, errors.New("away")
	}
	now := m.clock.Now()
	owed := make([]time.Duration, len(charges))
	part := &breaker.PartError{}
	for i, c := range charges {
		if m.away[c.Key] {
			part.Failed = append(part.Failed, i)
			continue
		}
		paid := m.paid[c.Key]
		if paid.Before(now) {
			paid = now
		}
		paid = paid.Add(c.Amount)
		m.paid[c.Key] = paid
		owed[i] = max(paid.Sub(now), 0)
	}
	if len(part.Failed) > 0 {
		return owed, part
	}
	if m.late > 0 && m.calls%m.late == 0 {
		return nil, context.DeadlineExceeded
	}
	return owed, nil
}

func (m *memory) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// nodes returns limiters that share a board, and run.
func nodes(t testing.TB, n int, rule rate.Rule, limit string, down bool) ([]*rate.Limiter, *clockwork.FakeClock, *memory) {
	t.Helper()
	clock := clockwork.NewFakeClock()
	board := &memory{clock: clock, paid: make(map[rate.Key]time.Time), down: down}
	var limits rate.Limits
	require.NoError(t, limits[rule].Set(limit))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	out := make([]*rate.Limiter, n)
	for i := range out {
		br := breaker.New(func(context.Context) error { return nil }, clock, slog.New(slog.DiscardHandler), nil)
		out[i] = rate.New(limits, board, br, clock, nil)
		running.Go(func() { out[i].Run(ctx) })
	}
	return out, clock, board
}

var somebody = rate.Key{Rule: rate.MessagesUser, A: "alice"}

// count takes until it is refused, at most most times, and returns how many it got and how long it must wait.
func count(t testing.TB, l *rate.Limiter, k rate.Key, most int) (got int, wait time.Duration) {
	t.Helper()
	for ; got < most; got++ {
		if err := l.Take(t.Context(), k); err != nil {
			return got, waitOf(t, err)
		}
	}
	return got, 0
}

func waitOf(t testing.TB, err error) time.Duration {
	t.Helper()
	var refused *refusal.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, refusal.RateLimited, refused.Reason)
	require.Equal(t, rate.MessagesUser.String(), refused.Meta["limit"])
	ms, err := strconv.Atoi(refused.Meta["retry_after_ms"])
	require.NoError(t, err)
	return time.Duration(ms) * time.Millisecond
}

// Exactly the bucket is given at once, whether the board answers or not, and then one token each time that one flows back,
// when it was said to.
func TestExactlyTheBucket(t *testing.T) {
	for _, burst := range []int{1, 2, 20, 33, 1000, 5000} {
		for _, down := range []bool{false, true} {
			ls, clock, _ := nodes(t, 1, rate.MessagesUser, "10/s:"+strconv.Itoa(burst), down)
			l := ls[0]
			got, wait := count(t, l, somebody, 2*burst+1)
			require.Equal(t, burst, got, "down: %v", down)
			require.Equal(t, 100*time.Millisecond, wait)
			clock.Advance(wait - time.Millisecond)
			got, wait = count(t, l, somebody, 1)
			require.Zero(t, got)
			require.Equal(t, time.Millisecond, wait)
			clock.Advance(wait)
			got, _ = count(t, l, somebody, 2)
			require.Equal(t, 1, got)
			other, _ := count(t, l, rate.Key{Rule: rate.MessagesUser, A: "bob"}, 1)
			require.Equal(t, 1, other, "others are not held back")
		}
	}
}

// A few nodes together give exactly what one bucket holds, many at most a 16th of it each beyond that. Without the board
// each gives what one bucket holds, never more.
func TestOneBucketOverNodes(t *testing.T) {
	for _, burst := range []int{10, 32, 100, 700} {
		for _, n := range []int{2, 3, 8} {
			ls, _, _ := nodes(t, n, rate.MessagesUser, "1/h:"+strconv.Itoa(burst), false)
			total := 0
			for range 2 * burst {
				for _, l := range ls {
					if l.Take(t.Context(), somebody) == nil {
						total++
					}
				}
			}
			if n <= 3 || burst <= 32 {
				require.Equal(t, burst, total, "%d nodes, bucket of %d", n, burst)
			} else {
				require.GreaterOrEqual(t, total, burst, "%d nodes", n)
				require.LessOrEqual(t, total, burst+n*(burst/16+1), "%d nodes", n)
			}

			alone, _, _ := nodes(t, n, rate.MessagesUser, "1/h:"+strconv.Itoa(burst), true)
			for _, l := range alone {
				got, _ := count(t, l, somebody, 2*burst)
				require.Equal(t, burst, got, "the board is away")
			}
		}
	}
}

// Who keeps below a limit is never refused, whichever nodes they come to, and whatever the board forgets or misses.
func TestBelowTheLimit(t *testing.T) {
	ls, clock, board := nodes(t, 3, rate.MessagesUser, "10/s:100", false)
	for i := range 5000 {
		if i%700 == 699 { // it is flushed, then away for a while
			board.mu.Lock()
			clear(board.paid)
			board.down = !board.down
			board.mu.Unlock()
		}
		clock.Advance(100 * time.Millisecond)
		require.NoError(t, ls[i%3].Take(t.Context(), somebody), "%d", i)
		if i%1000 == 999 { // after a rest the whole bucket is there, on every node
			clock.Advance(11 * time.Second)
			got, _ := count(t, ls[i%3], somebody, 100)
			require.Equal(t, 100, got)
			clock.Advance(11 * time.Second)
		}
	}
}

// What the board counted and did not answer in time is not told it again, which would count twice. What was given back is.
func TestAnswersThatAreLost(t *testing.T) {
	ls, clock, board := nodes(t, 3, rate.MessagesUser, "10/s:100", false)
	board.late = 3
	for range 100 {
		for node := range ls {
			got, _ := count(t, ls[node], somebody, 30)
			require.Equal(t, 30, got)
		}
		clock.Advance(9 * time.Second)
	}
	require.Greater(t, board.asked(), 300)
	ls, _, board = nodes(t, 1, rate.MessagesUser, "1/h:20", false)
	for range 20 {
		got, _ := count(t, ls[0], somebody, 10)
		require.Equal(t, 10, got)
		before := board.asked()
		board.mu.Lock()
		board.fails = 1
		board.mu.Unlock()
		for range 10 {
			ls[0].Return(somebody)
		}
		require.Eventually(t, func() bool { return board.asked() > before }, time.Minute, time.Millisecond)
	}
}

// Far below the limit the board is not asked at all.
func TestFarBelowCostsNothing(t *testing.T) {
	ls, clock, board := nodes(t, 1, rate.MessagesUser, "1000/s:10000", false)
	for range 20_000 {
		clock.Advance(2 * time.Millisecond)
		require.NoError(t, ls[0].Take(t.Context(), somebody))
	}
	require.Zero(t, board.asked())
	got, _ := count(t, ls[0], somebody, 10_001)
	require.InDelta(t, 10_000, got, 1)
	require.Less(t, board.asked(), 1100, "in steps, not for each")
}

// What was given back can be taken again, on other nodes too.
func TestReturn(t *testing.T) {
	ls, _, _ := nodes(t, 2, rate.MessagesUser, "1/h:20", false)
	for range 100 {
		require.NoError(t, ls[0].Take(t.Context(), somebody))
		ls[0].Return(somebody)
	}
	require.Eventually(t, func() bool { return ls[1].Take(t.Context(), somebody) == nil }, time.Minute, time.Millisecond)
	ls[1].Return(rate.Key{Rule: rate.MessagesUser, A: "nobody"})
}

// Callers at the same time get no more than the bucket.
func TestConcurrently(t *testing.T) {
	for _, down := range []bool{false, true} {
		ls, _, _ := nodes(t, 1, rate.MessagesUser, "1/h:500", down)
		var got atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for range 100 {
					if ls[0].Take(context.Background(), somebody) == nil {
						got.Add(1)
					}
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 500, got.Load())
	}
}

func TestOff(t *testing.T) {
	ls, _, _ := nodes(t, 1, rate.MessagesUser, "off", false)
	got, _ := count(t, ls[0], somebody, 10_000)
	require.Equal(t, 10_000, got)
	ls[0].Return(somebody)
}

// The memory is bounded: what was used longest ago is forgotten, the rest is not.
func TestBoundedMemory(t *testing.T) {
	ls, _, _ := nodes(t, 1, rate.MessagesUser, "1/h:40", true)
	for i := range 300_000 {
		require.NoError(t, ls[0].Take(t.Context(), rate.Key{Rule: rate.MessagesUser, A: strconv.Itoa(i)}))
	}
	require.LessOrEqual(t, ls[0].Buckets(), 1<<17)
	last := rate.Key{Rule: rate.MessagesUser, A: "299999"}
	got, _ := count(t, ls[0], last, 100)
	require.Equal(t, 39, got)
}

func TestLimitAsText(t *testing.T) {
	for text, want := range map[string]rate.Limit{
		"2000/s:10000": {Every: 500 * time.Microsecond, Burst: 10_000}, "100/h": {Every: 36 * time.Second, Burst: 100},
		"6/m:1": {Every: 10 * time.Second, Burst: 1}, "off": {}, "7/s:9": {Every: time.Second / 7, Burst: 9},
	} {
		var l rate.Limit
		require.NoError(t, l.Set(text))
		require.Equal(t, want, l, text)
		require.Equal(t, text, l.String())
	}
	for _, text := range []string{"", "0/s", "-1/s", "1", "1/d", "1/s:0", "1/s:-4", "1/s:x", "x/s", "1/s:", "5000000000/s", "1/h:1000000", "OFF", "0"} {
		l := rate.Limit{Every: 1, Burst: 1}
		require.Error(t, l.Set(text), text)
		require.Equal(t, rate.Limit{Every: 1, Burst: 1}, l)
	}
	for r, l := range rate.Defaults() {
		require.False(t, l.Off(), "%s: %s", rate.Rule(r), rate.Rule(r).What())
	}
}

func BenchmarkTake(b *testing.B) {
	l := rate.New(rate.Defaults(), nil, nil, clockwork.NewRealClock(), nil)
	keys := make([]rate.Key, 1000)
	for i := range keys {
		keys[i] = rate.Key{Rule: rate.MessagesSession, A: "0123456789abcdef" + strconv.Itoa(i)}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_ = l.Take(b.Context(), keys[i%1000])
	}
}

// Where a server of several is left alone, its keys are counted by each node and told when it is back; other keys are told.
func TestOneServerOfSeveralIsLeftAlone(t *testing.T) {
	ls, clock, board := nodes(t, 1, rate.MessagesUser, "10/s:1000", false)
	there, away := rate.Key{Rule: rate.MessagesUser, A: "there"}, rate.Key{Rule: rate.MessagesUser, A: "away"}
	board.away = map[rate.Key]bool{away: true}
	owed := func(k rate.Key) time.Duration {
		board.mu.Lock()
		defer board.mu.Unlock()
		return board.paid[k].Sub(clock.Now())
	}
	for _, k := range []rate.Key{there, away} {
		got, _ := count(t, ls[0], k, 2000)
		require.Equal(t, 1000, got)
	}
	require.Eventually(t, func() bool { return owed(there) > 90*time.Second }, time.Minute, time.Millisecond, "not told")
	require.Negative(t, owed(away))
	board.mu.Lock()
	board.away = nil
	board.mu.Unlock()
	clock.Advance(time.Second) // what is refused here is told nobody
	_, _ = count(t, ls[0], away, 1)
	require.Eventually(t, func() bool { return owed(away) > 90*time.Second }, time.Minute, time.Millisecond,
		"what was taken meanwhile is forgotten")
}
