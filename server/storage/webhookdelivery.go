package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/webhook"
)

func deliveryOf(r sqlc.WebhookDelivery) webhook.Delivery {
	d := webhook.Delivery{ID: r.DeliveryID, WebhookID: r.WebhookID, Lane: r.Lane, Position: r.Position, Chunk: r.Chunk,
		Event: webhook.EventType(r.EventType), Seq: r.SeqID, Users: r.UserIds, Relation: r.Relation, State: webhook.State(r.State),
		Attempts: int(r.Attempts), QueuedAt: r.QueuedAt.UTC(), DueAt: r.DueAt.UTC()}
	if r.SessionID != nil {
		d.SessionID = *r.SessionID
	}
	return d
}

// Next implements webhook.Deliveries.
func (s *Webhooks) Next(ctx context.Context, webhookID, lane uuid.UUID) (w webhook.Webhook, d webhook.Delivery, ok bool, err error) {
	rows, err := s.q.WebhookNext(ctx, s.pool, sqlc.WebhookNextParams{WebhookID: webhookID, Lane: lane})
	if err != nil || len(rows) == 0 {
		return w, d, false, Fault(err)
	}
	return webhookOf(rows[0].Webhook), deliveryOf(rows[0].WebhookDelivery), true, nil
}

// Settle implements webhook.Deliveries.
func (s *Webhooks) Settle(ctx context.Context, d webhook.Delivery, a webhook.Attempt, state webhook.State, dueAt time.Time) error {
	return Fault(s.q.WebhookSettle(ctx, s.pool, sqlc.WebhookSettleParams{DeliveryID: d.ID, State: int16(state), DueAt: dueAt,
		At: a.At, Status: int32(a.Status), Error: a.Error, Millis: int32(a.Took.Milliseconds())})) //nolint:gosec // an HTTP status, and seconds
}

// Needless implements webhook.Deliveries.
func (s *Webhooks) Needless(ctx context.Context, id uuid.UUID) error {
	return Fault(s.q.WebhookNeedless(ctx, s.pool, id))
}

// Split implements webhook.Deliveries.
func (s *Webhooks) Split(ctx context.Context, id uuid.UUID, parts [][]string) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		for i, users := range parts {
			if err := s.q.WebhookPart(ctx, tx, sqlc.WebhookPartParams{DeliveryID: id, Chunk: int32(i + 1), UserIds: users}); err != nil {
				return err
			}
		}
		return s.q.WebhookRemove(ctx, tx, id)
	})
}

// Entry implements webhook.Deliveries.
func (s *Webhooks) Entry(ctx context.Context, sessionID uuid.UUID, seq int64) (e message.Entry, found bool, err error) {
	rows, err := s.q.MessageListRanges(ctx, s.pool, sqlc.MessageListRangesParams{SessionIds: []uuid.UUID{sessionID},
		FromSeqs: []int64{seq - 1}, ToSeqs: []int64{seq}, MaxEntries: 1})
	if err != nil || len(rows) == 0 {
		return e, false, Fault(err)
	}
	return entry(sessionID, rows[0]), true, nil
}

// Audience implements webhook.Deliveries.
func (s *Webhooks) Audience(ctx context.Context, e message.Entry, after string, limit int) ([]string, error) {
	users, err := s.q.WebhookAudience(ctx, s.pool, sqlc.WebhookAudienceParams{SessionID: e.SessionID, Seq: e.Seq, SenderID: e.SenderID,
		AfterUser: after, MaxUsers: int32(limit)}) //nolint:gosec // a page
	return users, Fault(err)
}

// StillOffline implements webhook.Deliveries.
func (s *Webhooks) StillOffline(ctx context.Context, e message.Entry, users []string) ([]*parleyv1.OfflineUser, error) {
	rows, err := s.q.WebhookAudienceStill(ctx, s.pool, sqlc.WebhookAudienceStillParams{SessionID: e.SessionID, Seq: e.Seq, UserIds: users})
	if err != nil {
		return nil, Fault(err)
	}
	var out []*parleyv1.OfflineUser
	for _, r := range rows {
		if len(out) == 0 || out[len(out)-1].GetUserId() != r.UserID {
			out = append(out, &parleyv1.OfflineUser{UserId: r.UserID})
		}
		if r.DeviceID != "" {
			u := out[len(out)-1]
			u.Devices = append(u.Devices, &parleyv1.OfflineDevice{DeviceId: r.DeviceID, Platform: parleyv1.DevicePlatform(r.Platform), PushTarget: r.PushTarget})
		}
	}
	return out, nil
}

// Standings implements webhook.Standings. It belongs to sending, and so to the pool of the API.
type Standings struct{ *DB }

// Standings implements webhook.Standings.
func (s Standings) Standings(ctx context.Context, senderID string, drafts []message.Draft) ([]webhook.Standing, error) {
	p := sqlc.DraftStandingsParams{UserID: senderID}
	for _, d := range drafts {
		p.SessionIds, p.MsgIds, p.Peers = append(p.SessionIds, d.SessionID), append(p.MsgIds, d.MessageID), append(p.Peers, d.Peer)
	}
	rows, err := s.q.DraftStandings(ctx, s.pool, p)
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]webhook.Standing, len(rows))
	for i, r := range rows {
		// Who writes to a user for the first time is a member of the direct session that the message makes.
		first := !r.IsThere && drafts[i].Peer != ""
		out[i] = webhook.Standing{Known: r.IsKnown, Part: session.Part{Known: r.WasMember || first, Active: r.IsMember || first,
			Kind: session.Kind(r.Kind), Role: session.Role(r.Role), Muted: r.IsMuted, SendRole: session.Role(r.SendRole), Reach: session.Reach(r.Reach)}}
	}
	return out, nil
}
