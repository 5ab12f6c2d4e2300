package rpc

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/page"
	"github.com/parley-im/parley/server/webhook"
)

// defaultDeliveries is a page of deliveries where the request says nothing.
const defaultDeliveries = 50

// CreateWebhook implements AdminService.
func (s *AdminServer) CreateWebhook(ctx context.Context, req *parleyv1.CreateWebhookRequest) (*parleyv1.CreateWebhookResponse, error) {
	w, secret, err := s.Webhooks.Create(ctx, webhook.New{URL: req.GetUrl(), Description: req.GetDescription(), Events: events(req.GetEventTypes()),
		OnFailure: webhook.OnFailure(req.GetModerationFailure()), Timeout: req.GetModerationTimeout().AsDuration()}) //nolint:gosec // an enum of three
	if err != nil {
		return nil, err
	}
	return &parleyv1.CreateWebhookResponse{Webhook: webhookProto(w), Secret: secret}, nil
}

// ListWebhooks implements AdminService.
func (s *AdminServer) ListWebhooks(ctx context.Context, _ *parleyv1.ListWebhooksRequest) (*parleyv1.ListWebhooksResponse, error) {
	list, waiting, err := s.Webhooks.List(ctx)
	if err != nil {
		return nil, err
	}
	res := &parleyv1.ListWebhooksResponse{Webhooks: make([]*parleyv1.Webhook, len(list))}
	for i, w := range list {
		res.Webhooks[i] = webhookProto(w)
		res.Webhooks[i].Waiting = int32(waiting[i]) //nolint:gosec // counted up to 10,001
	}
	return res, nil
}

// UpdateWebhook implements AdminService.
func (s *AdminServer) UpdateWebhook(ctx context.Context, req *parleyv1.UpdateWebhookRequest) (*parleyv1.UpdateWebhookResponse, error) {
	id, err := uuid.Parse(req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	w, err := s.Webhooks.Update(ctx, id, webhook.Update{URL: req.Url, Description: req.Description, Events: events(req.GetEventTypes()), Enabled: req.IsEnabled,
		OnFailure: webhook.OnFailure(req.GetModerationFailure()), Timeout: req.GetModerationTimeout().AsDuration()}) //nolint:gosec // an enum of three
	if err != nil {
		return nil, err
	}
	return &parleyv1.UpdateWebhookResponse{Webhook: webhookProto(w)}, nil
}

// DeleteWebhook implements AdminService.
func (s *AdminServer) DeleteWebhook(ctx context.Context, req *parleyv1.DeleteWebhookRequest) (*parleyv1.DeleteWebhookResponse, error) {
	id, err := uuid.Parse(req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	if err := s.Webhooks.Delete(ctx, id); err != nil {
		return nil, err
	}
	return &parleyv1.DeleteWebhookResponse{}, nil
}

// RotateWebhookSecret implements AdminService.
func (s *AdminServer) RotateWebhookSecret(ctx context.Context, req *parleyv1.RotateWebhookSecretRequest) (*parleyv1.RotateWebhookSecretResponse, error) {
	id, err := uuid.Parse(req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	overlap := webhook.DefaultOverlap
	if req.Overlap != nil {
		overlap = req.GetOverlap().AsDuration()
	}
	secret, until, err := s.Webhooks.Rotate(ctx, id, overlap)
	if err != nil {
		return nil, err
	}
	return &parleyv1.RotateWebhookSecretResponse{Secret: secret, OldSecretUntil: timestampOrNil(until)}, nil
}

// ListWebhookDeliveries implements AdminService.
func (s *AdminServer) ListWebhookDeliveries(ctx context.Context, req *parleyv1.ListWebhookDeliveriesRequest) (*parleyv1.ListWebhookDeliveriesResponse, error) {
	id, err := uuid.Parse(req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	listing := page.WebhookDeliveries.For(id.String(), req.GetState().String())
	position, chunk := int64(math.MaxInt64), int64(0)
	if err := page.Decode(listing, req.GetPageToken(), &position, &chunk); err != nil {
		return nil, err
	}
	limit := int(req.GetLimit())
	if limit == 0 {
		limit = defaultDeliveries
	}
	before := webhook.Place{Position: position, Chunk: int32(min(chunk, math.MaxInt32))}
	list, err := s.Webhooks.Log(ctx, id, webhook.State(req.GetState()), before, limit) //nolint:gosec // an enum of five
	if err != nil {
		return nil, err
	}
	res := &parleyv1.ListWebhookDeliveriesResponse{Deliveries: make([]*parleyv1.WebhookDelivery, len(list))}
	for i, l := range list {
		res.Deliveries[i] = deliveryProto(l)
	}
	if len(list) == limit {
		last := list[limit-1]
		res.NextPageToken = page.Encode(listing, last.Position, int64(last.Chunk))
	}
	return res, nil
}

// ReplayWebhookDeliveries implements AdminService.
func (s *AdminServer) ReplayWebhookDeliveries(ctx context.Context, req *parleyv1.ReplayWebhookDeliveriesRequest) (*parleyv1.ReplayWebhookDeliveriesResponse, error) {
	id, err := uuid.Parse(req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(req.GetDeliveryIds()))
	for i, d := range req.GetDeliveryIds() {
		if ids[i], err = uuid.Parse(d); err != nil {
			return nil, err
		}
	}
	n, err := s.Webhooks.Replay(ctx, id, ids)
	if err != nil {
		return nil, err
	}
	return &parleyv1.ReplayWebhookDeliveriesResponse{Replayed: int32(n)}, nil //nolint:gosec // at most 1,000
}

// TestWebhook implements AdminService.
func (s *AdminServer) TestWebhook(ctx context.Context, req *parleyv1.TestWebhookRequest) (*parleyv1.TestWebhookResponse, error) {
	id, err := uuid.Parse(req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	a, err := s.Webhooks.Test(ctx, id)
	if err != nil {
		return nil, err
	}
	return &parleyv1.TestWebhookResponse{Attempt: attemptProto(a)}, nil
}

func events(types []parleyv1.WebhookEventType) []webhook.EventType {
	out := make([]webhook.EventType, len(types))
	for i, t := range types {
		out[i] = webhook.EventType(t) //nolint:gosec // an enum of eight
	}
	return out
}

func webhookProto(w webhook.Webhook) *parleyv1.Webhook {
	out := &parleyv1.Webhook{WebhookId: w.ID.String(), Url: w.URL, Description: w.Description, IsEnabled: w.Enabled,
		DisabledReason: parleyv1.WebhookDisabledReason(w.DisabledReason), ModerationFailure: parleyv1.ModerationFailure(w.OnFailure),
		OldSecretUntil: timestampOrNil(w.OldSecretUntil), CreatedAt: timestamppb.New(w.CreatedAt), UpdatedAt: timestamppb.New(w.UpdatedAt)}
	for _, t := range w.Events {
		out.EventTypes = append(out.EventTypes, parleyv1.WebhookEventType(t))
	}
	if w.Moderates() {
		out.ModerationTimeout = durationpb.New(w.Timeout)
	}
	return out
}

func deliveryProto(l webhook.Logged) *parleyv1.WebhookDelivery {
	out := &parleyv1.WebhookDelivery{DeliveryId: l.ID.String(), EventType: parleyv1.WebhookEventType(l.Event),
		State: parleyv1.WebhookDeliveryState(l.State), Seq: l.Seq, UserIds: l.Users, QueuedAt: timestamppb.New(l.QueuedAt),
		AttemptCount: int32(l.Attempts)} //nolint:gosec // at most 13
	if l.SessionID != uuid.Nil {
		out.SessionId = l.SessionID.String()
	}
	if l.State == webhook.Waiting && l.Attempts > 0 {
		out.NextAttemptAt = timestamppb.New(l.DueAt)
	}
	for _, a := range l.Recent {
		out.Attempts = append(out.Attempts, attemptProto(a))
	}
	return out
}

func attemptProto(a webhook.Attempt) *parleyv1.WebhookAttempt {
	return &parleyv1.WebhookAttempt{At: timestamppb.New(a.At), Status: int32(a.Status), Error: a.Error, //nolint:gosec // an HTTP status
		Duration: durationpb.New(a.Took.Round(time.Millisecond))}
}
