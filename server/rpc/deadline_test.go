package rpc

import (
	"context"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

// stalled handlers answer with the time that is left to them.
type stalled struct {
	parleyv1connect.UnimplementedPresenceServiceHandler
	left chan time.Duration
}

func (s stalled) GetPresence(ctx context.Context, _ *parleyv1.GetPresenceRequest) (*parleyv1.GetPresenceResponse, error) {
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Time{}
	}
	s.left <- time.Until(until)
	<-ctx.Done()
	return nil, ctx.Err()
}

// Every rpc has a deadline of its own: what is of no use when late ends before what changes something, and a client's
// shorter one counts.
func TestEachRPCHasItsDeadline(t *testing.T) {
	require.NoError(t, checkDeadlines())
	d := Deadlines(10 * time.Second)
	require.Equal(t, 10*time.Second, d[parleyv1connect.MessageServiceSendMessagesProcedure])
	require.Equal(t, 5*time.Second, d[parleyv1connect.StateServiceGetUnreadProcedure])
	require.Equal(t, 3*time.Second, d[parleyv1connect.PresenceServiceGetPresenceProcedure])
	require.NotContains(t, d, parleyv1connect.SyncServiceSubscribeProcedure)

	s := stalled{left: make(chan time.Duration, 20)} // room for all: none waits here
	cfg := (&fakes{send: sent}).config(t)
	cfg.Services.Presence, cfg.UnaryTimeout = s, 10*time.Second
	url := "http://" + guarded(t, cfg, unhurried(NewConns(0, 0, nil, nil)))
	client := parleyv1connect.NewPresenceServiceClient(http.DefaultClient, url, connect.WithInterceptors(connect.UnaryInterceptorFunc(
		func(next connect.UnaryFunc) connect.UnaryFunc {
			return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
				r.Header().Set("Authorization", "Bearer "+aliceToken)
				return next(ctx, r)
			}
		})))
	ask := func(ctx context.Context) (left time.Duration, arrived bool) {
		t.Helper()
		_, err := client.GetPresence(ctx, &parleyv1.GetPresenceRequest{UserIds: []string{"bob"}})
		require.Equal(t, connect.CodeDeadlineExceeded, connect.CodeOf(err), "%v", err)
		select {
		case left := <-s.left:
			return left, true
		case <-time.After(5 * time.Second): // on a busy machine its time was over before it had reached its handler
			return 0, false
		}
	}
	for client, bound := range map[time.Duration]time.Duration{time.Hour: 3 * time.Second, time.Second: time.Second} {
		for try := 1; ; try++ {
			ctx, cancel := context.WithTimeout(t.Context(), client)
			left, arrived := ask(ctx)
			cancel()
			if arrived && left > 0 {
				require.LessOrEqual(t, left, bound)
				break
			}
			require.Less(t, try, 10, "no call reached its handler")
		}
	}
}
