package stream_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// deaf is a sink that takes everything.
type deaf struct{}

func (deaf) Codec() wire.Codec      { return 0 }
func (deaf) Send(*wire.Frame) error { return nil }

// Streams end when their token's time is over or its key counts no more, and no others do.
func TestLapsedTokensEndTheirStreams(t *testing.T) {
	w := newWorld(t, stream.Config{})
	good, withdrawn := [32]byte{1}, [32]byte{2}
	gone := refusal.New(refusal.TokenInvalid, "Withdrawn.")
	check := func(key [32]byte) error {
		if key == good {
			return nil
		}
		return gone
	}
	serve := func(device string, key [32]byte, expires time.Time) (done chan error) {
		done = make(chan error, 1)
		go func() {
			done <- w.mgr.Serve(context.WithoutCancel(t.Context()),
				stream.Caller{UserID: "alice", DeviceID: device, Key: key, Expires: expires}, stream.Request{}, deaf{})
		}()
		require.Eventually(t, func() bool { return w.mgr.Has("alice", device) }, time.Minute, time.Millisecond)
		return done
	}
	far := time.Now().Add(time.Hour)
	stays, lost, late := serve("stays", good, far), serve("lost", withdrawn, far), serve("late", good, time.Now().Add(-time.Minute))
	w.mgr.EndLapsed(check)
	require.ErrorIs(t, <-lost, gone)
	require.Equal(t, refusal.TokenExpired, reasonOf(<-late))
	select {
	case err := <-stays:
		require.Fail(t, "ended", err)
	default:
	}
	require.True(t, w.mgr.Has("alice", "stays"))
}
