package storage

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/webhook"
)

// oneModerates is the index that lets at most one webhook moderate.
const oneModerates = "webhook_one_moderates"

// webhookFault is Fault, and knows that index.
func webhookFault(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.ConstraintName == oneModerates {
		return webhook.ErrModerationTaken
	}
	return Fault(err)
}

func webhookOf(w sqlc.Webhook) webhook.Webhook {
	out := webhook.Webhook{ID: w.WebhookID, URL: w.Url, Description: w.Description, Enabled: w.IsEnabled,
		DisabledReason: webhook.DisabledReason(w.DisabledReason), OnFailure: webhook.OnFailure(w.ModerationFailure),
		Timeout: time.Duration(w.ModerationTimeoutMs) * time.Millisecond, Secret: w.Secret, OldSecret: w.OldSecret,
		OldSecretUntil: utc(w.OldSecretUntil), CreatedAt: w.CreatedAt.UTC(), UpdatedAt: w.UpdatedAt.UTC()}
	for _, t := range w.EventTypes {
		out.Events = append(out.Events, webhook.EventType(t))
	}
	return out
}

func eventNumbers(events []webhook.EventType) []int16 {
	out := make([]int16, len(events))
	for i, t := range events {
		out[i] = int16(t)
	}
	return out
}

// Create implements webhook.Settings.
func (s *Webhooks) Create(ctx context.Context, w webhook.Webhook, most int) (ok bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if err := s.q.WebhookSessionsForget(ctx, tx); err != nil {
			return err
		}
		if err := s.q.WebhookCreate(ctx, tx, sqlc.WebhookCreateParams{WebhookID: w.ID, Url: w.URL, Description: w.Description,
			EventTypes: eventNumbers(w.Events), ModerationFailure: int16(w.OnFailure), ModerationTimeoutMs: int32(w.Timeout.Milliseconds()), //nolint:gosec // at most 3000
			Secret: w.Secret, Now: w.CreatedAt}); err != nil {
			return err
		}
		if err := s.q.WebhookReaderChanged(ctx, tx); err != nil { // locks its row: whoever comes next counts this one too
			return err
		}
		n, err := s.q.WebhookCount(ctx, tx)
		if ok = n <= int64(most); err == nil && !ok {
			return errTooMany
		}
		return err
	})
	if errors.Is(err, errTooMany) {
		return false, nil
	}
	return ok, err
}

var errTooMany = errors.New("too many webhooks")

// List implements webhook.Settings and webhook.Source.
func (s *Webhooks) List(ctx context.Context) ([]webhook.Webhook, error) {
	rows, err := s.q.WebhookList(ctx, s.pool)
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]webhook.Webhook, len(rows))
	for i, r := range rows {
		out[i] = webhookOf(r)
	}
	return out, nil
}

// Change implements webhook.Settings.
func (s *Webhooks) Change(ctx context.Context, id uuid.UUID, fn func(w *webhook.Webhook) error) (ok bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		row, err := s.q.WebhookGetLocked(ctx, tx, id)
		if ok = err == nil; !ok {
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		}
		w := webhookOf(row)
		before := w.Enabled
		if err := fn(&w); err != nil {
			return err
		}
		if err := s.q.WebhookSessionsForget(ctx, tx); err != nil {
			return err
		}
		if err := s.q.WebhookSave(ctx, tx, sqlc.WebhookSaveParams{WebhookID: id, Url: w.URL, Description: w.Description,
			EventTypes: eventNumbers(w.Events), IsEnabled: w.Enabled, DisabledReason: int16(w.DisabledReason),
			ModerationFailure: int16(w.OnFailure), ModerationTimeoutMs: int32(w.Timeout.Milliseconds()), //nolint:gosec // at most 3000
			Secret: w.Secret, OldSecret: w.OldSecret, OldSecretUntil: w.OldSecretUntil, UpdatedAt: w.UpdatedAt}); err != nil {
			return err
		}
		if w.Enabled && !before {
			if err := s.resume(ctx, tx, id); err != nil {
				return err
			}
		}
		return s.q.WebhookReaderChanged(ctx, tx)
	})
	return ok, err
}

// Disable implements webhook.Source.
func (s *Webhooks) Disable(ctx context.Context, id uuid.UUID, why webhook.DisabledReason, now time.Time) (disabled bool, err error) {
	_, err = s.Change(ctx, id, func(w *webhook.Webhook) error {
		if disabled = w.Enabled; disabled {
			w.Enabled, w.DisabledReason, w.UpdatedAt = false, why, now
		}
		return nil
	})
	return disabled, err
}

// Delete implements webhook.Settings. Its deliveries go by Tidy.
func (s *Webhooks) Delete(ctx context.Context, id uuid.UUID) (ok bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		n, err := s.q.WebhookDelete(ctx, tx, id)
		if ok = n > 0; err != nil || !ok {
			return err
		}
		return s.q.WebhookReaderChanged(ctx, tx)
	})
	return ok, err
}

// Waiting implements webhook.Settings and webhook.Source.
func (s *Webhooks) Waiting(ctx context.Context, id uuid.UUID, most int) (int, error) {
	n, err := s.q.WebhookCountWaiting(ctx, s.pool, sqlc.WebhookCountWaitingParams{WebhookID: id, AtMost: int32(most)}) //nolint:gosec // bounded settings
	return int(n), Fault(err)
}

// Log implements webhook.Settings.
func (s *Webhooks) Log(ctx context.Context, id uuid.UUID, state webhook.State, before webhook.Place, most int) ([]webhook.Logged, error) {
	rows, err := s.q.WebhookDeliveryList(ctx, s.pool, sqlc.WebhookDeliveryListParams{WebhookID: id, State: int16(state),
		BeforePosition: before.Position, BeforeChunk: before.Chunk, MaxDeliveries: int32(most)}) //nolint:gosec // a page
	if err != nil {
		return nil, Fault(err)
	}
	out, place, ids := make([]webhook.Logged, len(rows)), make(map[uuid.UUID]int, len(rows)), make([]uuid.UUID, len(rows))
	for i, r := range rows {
		out[i].Delivery, place[r.DeliveryID], ids[i] = deliveryOf(r), i, r.DeliveryID
	}
	attempts, err := s.q.WebhookAttemptList(ctx, s.pool, ids)
	if err != nil {
		return nil, Fault(err)
	}
	for _, a := range attempts {
		l := &out[place[a.DeliveryID]]
		l.Recent = append(l.Recent, webhook.Attempt{At: a.At.UTC(), Status: int(a.Status), Error: a.Error, Took: time.Duration(a.Millis) * time.Millisecond})
	}
	return out, nil
}

// Replay implements webhook.Settings.
func (s *Webhooks) Replay(ctx context.Context, id uuid.UUID, deliveries []uuid.UUID, most int, now time.Time) (n int, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		chosen := deliveries
		if len(chosen) == 0 {
			var err error
			if chosen, err = s.q.WebhookGivenUp(ctx, tx, sqlc.WebhookGivenUpParams{WebhookID: id, AtMost: int32(most)}); err != nil { //nolint:gosec // a constant
				return err
			}
		}
		if err := s.q.WebhookLanesExclusive(ctx, tx); err != nil {
			return err
		}
		lanes, err := s.q.WebhookReplay(ctx, tx, sqlc.WebhookReplayParams{WebhookID: id, DeliveryIds: chosen, Now: now})
		if err != nil {
			return err
		}
		n = len(lanes)
		return s.insertJobs(ctx, tx, id, lanes)
	})
	return n, err
}
