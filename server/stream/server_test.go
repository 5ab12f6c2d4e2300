package stream_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"connectrpc.com/grpchealth"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/rpc"
)

// serveWorld offers a world over the network, through net/http and connect as the program puts them together. A token is
// the user's id; the device is "d".
func serveWorld(t testing.TB, w *world, ln net.Listener, reg *prometheus.Registry) {
	log := slog.New(slog.DiscardHandler)
	key, err := auth.NewAPIKey(strings.Repeat("k", 40))
	require.NoError(t, err)
	syncer := &rpc.SyncServer{Streams: w.mgr, Acks: cursor.New(nil, nil, nil, clockwork.NewRealClock(), log), Signals: w.hub, Epoch: w}
	h, err := rpc.New(rpc.Config{
		Services: rpc.Services{Relation: parleyv1connect.UnimplementedRelationServiceHandler{},
			Device:  parleyv1connect.UnimplementedDeviceServiceHandler{},
			Session: parleyv1connect.UnimplementedSessionServiceHandler{},
			Message: parleyv1connect.UnimplementedMessageServiceHandler{},
			State:   parleyv1connect.UnimplementedStateServiceHandler{}, Sync: syncer,
			Presence: parleyv1connect.UnimplementedPresenceServiceHandler{},
			Admin:    parleyv1connect.UnimplementedAdminServiceHandler{}},
		Subscriber: syncer, Verifier: believer{}, APIKey: key, Gate: believer{}, Health: grpchealth.NewStaticChecker(),
		Log: log, Metrics: reg,
	})
	require.NoError(t, err)
	srv := rpc.NewHTTPServer(context.Background(), h, nil, log)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
}

// believer takes the token for the user's id.
type believer struct{}

func (believer) Verify(_ context.Context, raw string) (auth.Principal, error) {
	return auth.Principal{UserID: raw, DeviceID: "d"}, nil
}

func (believer) Check(context.Context, string, string) error { return nil }
