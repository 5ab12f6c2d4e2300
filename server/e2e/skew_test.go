package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	parley "github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// skewed is the machine's clock, off by some time.
type skewed struct {
	clockwork.Clock
	by time.Duration
}

func (s skewed) Now() time.Time                   { return s.Clock.Now().Add(s.by) }
func (s skewed) Since(at time.Time) time.Duration { return s.Now().Sub(at) }
func (s skewed) Until(at time.Time) time.Duration { return at.Sub(s.Now()) }

// startSkewed runs nodes on a database in this process, each with a clock that is off.
func startSkewed(t *testing.T, pg string, by ...time.Duration) (nodes []*rig.Server) {
	t.Helper()
	red, _ := testenv.Redis(t)
	key := filepath.Join(t.TempDir(), "signing.pem")
	for _, off := range by {
		cfg := parley.Default()
		cfg.Listen, cfg.AdminListen, cfg.DrainGrace = "127.0.0.1:0", "127.0.0.1:0", 0
		cfg.Postgres.URL, cfg.Redis.URL = pg, red
		cfg.Auth.AdminKey, cfg.Auth.SigningKey = strings.ReplaceAll(rig.AdminKey, " ", "-"), key
		cfg.UnaryTimeout, cfg.DrainTimeout = 2*time.Minute, 2*time.Minute
		cfg.Clock = skewed{clockwork.NewRealClock(), off}
		ctx, stop := context.WithCancel(context.Background())
		node, err := parley.New(ctx, cfg, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- node.Run(ctx) }()
		t.Cleanup(func() { stop(); require.NoError(t, <-done) })
		nodes = append(nodes, rig.Attach(t, node.Addr(), node.AdminAddr()))
	}
	return nodes
}

// The clock of one node is 10 minutes ahead, that of another 10 minutes behind: order, delivery, states, cuts, revocation
// and displacement go by no clock.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	var sent int
	report(t, "B4", "the clock of one node 10 min ahead, of another 10 min behind, under load",
		"0 lost, 0 twice, 0 out of order; read marks, kick, revocation and displacement hold across nodes",
		func() string { return fmt.Sprintf("%d acked", sent) })
	pg := testenv.PostgresURL(t)
	nodes := startSkewed(t, pg, 10*time.Minute, -10*time.Minute)
	waitPeers(t, nodes)
	// Tokens come from the clock that is behind: one from the future is refused for good reason.
	device := func(node int, user, device string) *rig.Device {
		return nodes[node].NewDeviceWith(user, device, nodes[1].Token(user, device))
	}
	a0, a1, b0, b1 := device(0, "alice", "ahead"), device(1, "alice", "behind"), device(0, "bob", "ahead"), device(1, "bob", "behind")
	all := []*rig.Device{a0, a1, b0, b1}
	id := a0.Group(t.Context(), "bob")
	for _, d := range all {
		d.Connect()
		d.WaitCaughtUp(1)
	}
	l := startPaced(t, []*rig.Device{a0, b1}, []string{id}, 5*time.Millisecond, nil)
	l.lag.Store(watchLag(t, pg, nodes...))
	time.Sleep(size(500*time.Millisecond, 3*time.Second, scaled(30*time.Second)))
	// The same send on both nodes has one answer, with one time.
	req := rig.To(id, "once")
	one, err := a0.Messages.SendMessage(t.Context(), req)
	require.NoError(t, err)
	two, err := nodes[1].ClientWith("alice", "ahead", a0.Token).Messages.SendMessage(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, one.String(), two.String())
	a0.Sent(id, one.GetSeq())
	l.stop()
	require.Empty(t, l.codes)
	l.check(t, b0.Client, all, []string{id})
	sent = l.count()
	head := a0.Send(t.Context(), id, "the last one, which bob has not read by sending").GetSeq()
	a0.Sent(id, head)

	_, err = b0.States.MarkRead(t.Context(), &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: head})
	require.NoError(t, err)
	b1.WaitEvent("read on the other node", func(ev *parleyv1.Event) bool { return ev.GetState().GetReadSeq() >= head })
	kick, err := a0.Sessions.RemoveMember(t.Context(), &parleyv1.RemoveMemberRequest{SessionId: id, UserId: "bob"})
	require.NoError(t, err)
	for _, d := range []*rig.Device{b0, b1} {
		d.WaitSeq(id, kick.GetSeq())
		_, err = d.Messages.SendMessage(t.Context(), rig.To(id, "too late"))
		require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
	}
	newer := nodes[0].NewDeviceWith("alice", "behind", a1.Token)
	newer.Connect()
	newer.WaitCaughtUp(1)
	require.Equal(t, "STREAM_DISPLACED", reason(a1.Ended()))
	_, err = newer.Devices.RevokeDevice(t.Context(), &parleyv1.RevokeDeviceRequest{DeviceId: "ahead"})
	require.NoError(t, err)
	require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(a0.Ended()))
	_, err = b1.Devices.RevokeDevice(t.Context(), &parleyv1.RevokeDeviceRequest{DeviceId: "ahead"})
	require.NoError(t, err)
	require.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(b0.Ended()))
	requireNoProblems(t, all...)
}
