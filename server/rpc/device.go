package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/device"
)

// DeviceServer implements DeviceService.
type DeviceServer struct {
	Devices *device.Service
}

// RegisterDevice implements DeviceService.
func (s *DeviceServer) RegisterDevice(ctx context.Context, req *parleyv1.RegisterDeviceRequest) (*parleyv1.RegisterDeviceResponse, error) {
	by := actor(ctx)
	d, err := s.Devices.Register(ctx, by, device.Details{
		Platform: platform(req.GetPlatform()), PushTarget: req.GetPushTarget(), DisplayName: req.GetDisplayName(),
	})
	if err != nil {
		return nil, err
	}
	return &parleyv1.RegisterDeviceResponse{Device: deviceProto(d, by.DeviceID)}, nil
}

// ListDevices implements DeviceService.
func (s *DeviceServer) ListDevices(ctx context.Context, _ *parleyv1.ListDevicesRequest) (*parleyv1.ListDevicesResponse, error) {
	by := actor(ctx)
	list, err := s.Devices.List(ctx, by.UserID)
	if err != nil {
		return nil, err
	}
	res := &parleyv1.ListDevicesResponse{Devices: make([]*parleyv1.Device, len(list))}
	for i, d := range list {
		res.Devices[i] = deviceProto(d, by.DeviceID)
	}
	return res, nil
}

// RevokeDevice implements DeviceService.
func (s *DeviceServer) RevokeDevice(ctx context.Context, req *parleyv1.RevokeDeviceRequest) (*parleyv1.RevokeDeviceResponse, error) {
	if err := s.Devices.Revoke(ctx, PrincipalFrom(ctx).UserID, req.GetDeviceId()); err != nil {
		return nil, err
	}
	return &parleyv1.RevokeDeviceResponse{}, nil
}

// deviceProto is a device as its user sees it from the device current.
func deviceProto(d device.Device, current string) *parleyv1.Device {
	return &parleyv1.Device{
		DeviceId: d.ID, Platform: parleyv1.DevicePlatform(d.Platform), DisplayName: d.DisplayName,
		CreatedAt: timestamppb.New(d.CreatedAt), LastSeenAt: timestampOrNil(d.LastSeenAt), IsCurrent: d.ID == current,
	}
}

func platform(p parleyv1.DevicePlatform) device.Platform {
	return device.Platform(p) //nolint:gosec // validated to be a defined value
}

func timestampOrNil(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}
