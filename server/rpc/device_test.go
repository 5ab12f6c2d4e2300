package rpc

import (
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func TestDeviceService(t *testing.T) {
	p := newPeople(t, nil)
	ctx := t.Context()
	phone, tablet := p.devices("alice/phone"), p.devices("alice/tablet")

	// A device that nobody knows may register and nothing else; a moment later it may call.
	_, err := phone.ListDevices(ctx, &parleyv1.ListDevicesRequest{})
	requireError(t, err, connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED)
	made, err := phone.RegisterDevice(ctx, &parleyv1.RegisterDeviceRequest{
		Platform: parleyv1.DevicePlatform_DEVICE_PLATFORM_ANDROID, PushTarget: "push:1", DisplayName: "Phone",
	})
	require.NoError(t, err)
	require.Equal(t, "phone", made.GetDevice().GetDeviceId())
	require.Equal(t, parleyv1.DevicePlatform_DEVICE_PLATFORM_ANDROID, made.GetDevice().GetPlatform())
	require.Equal(t, "Phone", made.GetDevice().GetDisplayName())
	require.True(t, made.GetDevice().GetCreatedAt().AsTime().Equal(p.clock.Now()))
	require.Nil(t, made.GetDevice().GetLastSeenAt())
	require.True(t, made.GetDevice().GetIsCurrent())
	_, err = tablet.RegisterDevice(ctx, &parleyv1.RegisterDeviceRequest{})
	require.NoError(t, err)
	list, err := tablet.ListDevices(ctx, &parleyv1.ListDevicesRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetDevices(), 2)
	require.False(t, list.GetDevices()[0].GetIsCurrent())
	require.True(t, list.GetDevices()[1].GetIsCurrent())

	_, err = phone.RevokeDevice(ctx, &parleyv1.RevokeDeviceRequest{DeviceId: "unknown"})
	requireError(t, err, connect.CodeNotFound, parleyv1.ErrorReason_ERROR_REASON_DEVICE_UNAVAILABLE)
	_, err = phone.RevokeDevice(ctx, &parleyv1.RevokeDeviceRequest{DeviceId: "tablet"})
	require.NoError(t, err)
	require.Equal(t, []string{"alice/tablet DEVICE_REVOKED"}, p.ended)
	_, err = tablet.ListDevices(ctx, &parleyv1.ListDevicesRequest{})
	requireError(t, err, connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED)
	_, err = tablet.RegisterDevice(ctx, &parleyv1.RegisterDeviceRequest{})
	requireError(t, err, connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED)

	_, err = p.devices("bob/ phone").RegisterDevice(ctx, &parleyv1.RegisterDeviceRequest{})
	detail := requireError(t, err, connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
	require.Equal(t, "device_id", detail.GetMetadata()["field"])
}

// fixedMinter signs with a constant.
type fixedMinter struct{ now func() time.Time }

func (m fixedMinter) Mint(userID, deviceID string, ttl time.Duration) (string, time.Time, error) {
	return userID + "/" + deviceID, m.now().Add(ttl), nil
}

func TestAdminService(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	p := newPeople(t, fixedMinter{now: func() time.Time { return at }})
	ctx := t.Context()
	admin := p.admin(connect.WithProtoJSON())

	token, err := admin.CreateToken(ctx, &parleyv1.CreateTokenRequest{UserId: "alice", DeviceId: "phone"})
	require.NoError(t, err)
	require.Equal(t, at.Add(24*time.Hour), token.GetExpiresAt().AsTime())
	// The token is all that a device needs.
	_, err = p.devices(token.GetToken()).ListDevices(ctx, &parleyv1.ListDevicesRequest{})
	require.NoError(t, err)
	token, err = admin.CreateToken(ctx, &parleyv1.CreateTokenRequest{UserId: "alice", DeviceId: "phone", Ttl: durationpb.New(time.Hour)})
	require.NoError(t, err)
	require.Equal(t, at.Add(time.Hour), token.GetExpiresAt().AsTime())
	_, err = admin.CreateToken(ctx, &parleyv1.CreateTokenRequest{UserId: "alice", DeviceId: "phone", Ttl: durationpb.New(time.Second)})
	requireError(t, err, connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_INVALID_FIELD)

	user, err := admin.UpsertUser(ctx, &parleyv1.UpsertUserRequest{UserId: "alice", DisplayName: "Alice", AvatarUrl: "https://example.org/a"})
	require.NoError(t, err)
	require.Equal(t, "Alice", user.GetUser().GetDisplayName())
	require.Equal(t, "https://example.org/a", user.GetUser().GetAvatarUrl())
	require.Nil(t, user.GetUser().GetDeactivatedAt())

	_, err = admin.DeactivateUser(ctx, &parleyv1.DeactivateUserRequest{UserId: "alice"})
	require.NoError(t, err)
	require.Equal(t, []string{"alice USER_DEACTIVATED"}, p.ended)
	_, err = p.devices("alice/phone").ListDevices(ctx, &parleyv1.ListDevicesRequest{})
	requireError(t, err, connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_USER_DEACTIVATED)
	_, err = admin.DeactivateUser(ctx, &parleyv1.DeactivateUserRequest{UserId: "nobody"})
	requireError(t, err, connect.CodeNotFound, parleyv1.ErrorReason_ERROR_REASON_USER_UNAVAILABLE)
	_, err = admin.UpsertUser(ctx, &parleyv1.UpsertUserRequest{UserId: "alice"})
	require.NoError(t, err)
	_, err = p.devices("alice/phone").ListDevices(ctx, &parleyv1.ListDevicesRequest{})
	require.NoError(t, err, "brought back at once")

	stats, err := admin.GetStats(ctx, &parleyv1.GetStatsRequest{})
	require.NoError(t, err)
	require.Equal(t, "epoch-1", stats.GetEpoch())
	require.Equal(t, []int64{10, 20, 30, 3, 4, 5}, []int64{
		stats.GetUsersEstimate(), stats.GetSessionsEstimate(), stats.GetMessagesEstimate(), stats.GetStreams(),
		stats.GetQueueBytes(), stats.GetMessagesSent(),
	})
	require.True(t, stats.GetStartedAt().AsTime().Equal(at))
	require.Equal(t, "v1.2.3", stats.GetVersion())
}

func TestNoSigningKey(t *testing.T) {
	p := newPeople(t, nil)
	_, err := p.admin().CreateToken(t.Context(), &parleyv1.CreateTokenRequest{UserId: "alice", DeviceId: "phone"})
	requireError(t, err, connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED)
}
