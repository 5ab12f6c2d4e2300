package rpc

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/refusal"
)

func TestEveryProcedureNeedsAnAccess(t *testing.T) {
	require.NoError(t, checkAccess(declared))

	missing := maps.Clone(declared)
	delete(missing, parleyv1connect.MessageServiceSendMessageProcedure)
	require.ErrorContains(t, checkAccess(missing), "/parley.v1.MessageService/SendMessage")

	extra := maps.Clone(declared)
	extra["/parley.v1.MessageService/Gone"] = user
	require.ErrorContains(t, checkAccess(extra), "/parley.v1.MessageService/Gone")
}

func TestEveryProcedureOnASessionNeedsARight(t *testing.T) {
	require.NoError(t, checkRights(rights))

	missing := maps.Clone(rights)
	delete(missing, parleyv1connect.SyncServiceAckProcedure) // which has the session's id a level down
	require.ErrorContains(t, checkRights(missing), "/parley.v1.SyncService/Ack")

	extra := maps.Clone(rights)
	extra[parleyv1connect.AdminServiceGetStatsProcedure] = rights[parleyv1connect.SyncServiceAckProcedure]
	require.ErrorContains(t, checkRights(extra), "/parley.v1.AdminService/GetStats")
}

func TestNewNeedsEverything(t *testing.T) {
	cfg := (&fakes{}).config(t)
	cfg.Services.State = nil
	_, err := New(cfg)
	require.ErrorContains(t, err, "State")

	cfg = (&fakes{}).config(t)
	cfg.Gate = nil
	_, err = New(cfg)
	require.Error(t, err)
}

func TestWhoMayCall(t *testing.T) {
	key := strings.ReplaceAll(adminKey, " ", "-")
	f := &fakes{
		send: func(ctx context.Context, _ *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
			require.Equal(t, "alice", PrincipalFrom(ctx).UserID)
			require.Equal(t, "d1", PrincipalFrom(ctx).DeviceID)
			return &parleyv1.SendMessageResponse{Seq: 1}, nil
		},
		stats: func(ctx context.Context) (*parleyv1.GetStatsResponse, error) {
			require.Empty(t, PrincipalFrom(ctx).UserID)
			return &parleyv1.GetStatsResponse{Streams: 7}, nil
		},
	}
	url := serve(t, f.config(t))
	protocols(t, func(t *testing.T, hc connect.HTTPClient, opts ...connect.ClientOption) {
		send := func(token string) error {
			_, err := parleyv1connect.NewMessageServiceClient(hc, url, append(opts, as(token))...).
				SendMessage(t.Context(), textTo("bob", "hi"))
			return err
		}
		stats := func(token string) error {
			_, err := parleyv1connect.NewAdminServiceClient(hc, url, append(opts, as(token))...).
				GetStats(t.Context(), &parleyv1.GetStatsRequest{})
			return err
		}
		require.NoError(t, send(aliceToken))
		require.NoError(t, stats(key))
		requireError(t, send(""), connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_TOKEN_MISSING)
		requireError(t, send("x"), connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
		requireError(t, send(key), connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED)
		requireError(t, stats(""), connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_API_KEY_INVALID)
		requireError(t, stats("x"), connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_API_KEY_INVALID)
		requireError(t, stats(aliceToken), connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED)

		stream, err := parleyv1connect.NewSyncServiceClient(hc, url, append(opts, as("x"))...).
			Subscribe(t.Context(), &parleyv1.SubscribeRequest{})
		require.NoError(t, err)
		require.False(t, stream.Receive())
		requireError(t, stream.Err(), connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_TOKEN_INVALID)
	})
}

// A revoked device may do nothing, an unknown one may register.
func TestGate(t *testing.T) {
	f := &fakes{
		gate: func(userID, deviceID string) error {
			require.Equal(t, "alice/d1", userID+"/"+deviceID)
			return refusal.New(refusal.DeviceRevoked, "Gone.")
		},
		register: func(ctx context.Context, _ *parleyv1.RegisterDeviceRequest) (*parleyv1.RegisterDeviceResponse, error) {
			require.Equal(t, "alice", PrincipalFrom(ctx).UserID)
			return &parleyv1.RegisterDeviceResponse{}, nil
		},
	}
	url := serve(t, f.config(t))
	_, err := parleyv1connect.NewMessageServiceClient(http.DefaultClient, url, as(aliceToken)).
		SendMessage(t.Context(), textTo("bob", "hi"))
	requireError(t, err, connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED)

	_, err = parleyv1connect.NewDeviceServiceClient(http.DefaultClient, url, as(aliceToken)).
		RegisterDevice(t.Context(), &parleyv1.RegisterDeviceRequest{})
	require.NoError(t, err)
}

func TestTwoAuthorizationHeadersAreRefused(t *testing.T) {
	g := &gate{table: declared, verifier: fakeVerifier{}, key: (&fakes{}).config(t).APIKey, devices: &fakes{}, timeout: 1e9}
	h := http.Header{}
	h.Add("Authorization", "Bearer "+aliceToken)
	_, err := g.check(t.Context(), parleyv1connect.MessageServiceSendMessageProcedure, h)
	require.NoError(t, err)
	h.Add("Authorization", "Bearer "+aliceToken)
	_, err = g.check(t.Context(), parleyv1connect.MessageServiceSendMessageProcedure, h)
	require.ErrorIs(t, err, errHeader)
	_, err = g.check(t.Context(), "/parley.v1.MessageService/Undeclared", h)
	require.ErrorIs(t, err, errNowhere)
}
