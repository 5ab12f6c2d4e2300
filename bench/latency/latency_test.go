package latency_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/bench/latency"
)

func TestRecorder(t *testing.T) {
	t.Parallel()
	r := latency.NewRecorder()
	r.Record(0, time.Hour, 1) // warm-up
	r.Begin()
	var all sync.WaitGroup
	for who := range 10 {
		all.Go(func() {
			for i := range 100 {
				r.Record(who, time.Duration(who*100+i+1)*time.Millisecond, 1)
			}
		})
	}
	all.Wait()
	s := r.End()
	r.Record(0, time.Hour, 1)
	require.EqualValues(t, 1000, s.Count)
	require.InEpsilon(t, 500, s.P50, 0.01)
	require.InEpsilon(t, 990, s.P99, 0.01)
	require.InEpsilon(t, 999, s.P999, 0.01)
	require.InEpsilon(t, 1000, s.Max, 0.01)

	r.Begin()
	r.Record(0, -time.Second, 3) // clocks may step
	r.Record(0, time.Hour, 1)
	s = r.End()
	require.EqualValues(t, 4, s.Count, "what was recorded before is gone")
	require.InEpsilon(t, 120_000, s.Max, 0.01, "the longest that is told apart")
	r.Begin()
	require.Zero(t, r.End())
}

func TestStamp(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 123_456_789)
	body := append(latency.AppendStamp([]byte{}, at), "and more"...)
	got, ok := latency.Stamp(body)
	require.True(t, ok)
	require.True(t, at.Equal(got))
	for _, none := range []string{"", "abc", "no stamp in here, only words"} {
		_, ok := latency.Stamp([]byte(none))
		require.False(t, ok)
	}
}
