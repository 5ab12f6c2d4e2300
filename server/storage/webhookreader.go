package storage

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/webhook"
)

// Generation implements webhook.Source.
func (s *Webhooks) Generation(ctx context.Context) (generation int64, active bool, err error) {
	r, err := s.q.WebhookReaderGet(ctx, s.pool)
	return r.Generation, r.Active, Fault(err)
}

// Read implements webhook.Source. Its statements have snapshots of their own (READ COMMITTED), so that jobs may change
// meanwhile; what belongs to this read is said by the snapshot that it took first.
func (s *Webhooks) Read(ctx context.Context, epoch string, now time.Time) (out webhook.Reading, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		out = webhook.Reading{}
		if err := s.q.WebhookPatience(ctx, tx); err != nil {
			return err
		}
		at, err := s.q.WebhookReaderLock(ctx, tx, readBoundSeconds)
		if err != nil || len(at) == 0 {
			return err
		}
		out.Late = at[0].Late
		until, err := s.q.WebhookSnapshot(ctx, tx)
		if err != nil {
			return err
		}
		if err := s.q.WebhookLanesExclusive(ctx, tx); err != nil {
			return err
		}
		lanes, err := s.queue(ctx, tx, at[0].Snapshot, until, epoch, now, &out)
		if err != nil {
			return err
		}
		for id, l := range lanes {
			if err := s.insertJobs(ctx, tx, id, l); err != nil {
				return err
			}
		}
		return s.q.WebhookReaderMoved(ctx, tx, until)
	})
	return out, err
}

// queue makes the deliveries between two snapshots and returns their lanes by webhook.
func (s *Webhooks) queue(ctx context.Context, tx pgx.Tx, since, until, epoch string, now time.Time, out *webhook.Reading) (map[uuid.UUID][]uuid.UUID, error) {
	lanes := make(map[uuid.UUID][]uuid.UUID)
	entries, err := s.q.WebhookQueueEntries(ctx, tx, sqlc.WebhookQueueEntriesParams{Since: since, Until: until, Now: now, Epoch: epoch})
	if err != nil {
		return nil, err
	}
	for _, r := range entries {
		lanes[r.WebhookID] = append(lanes[r.WebhookID], r.Lane)
		out.Deliveries += r.Deliveries
	}
	relations, err := s.q.WebhookQueueRelations(ctx, tx, sqlc.WebhookQueueRelationsParams{Since: since, Until: until, Now: now, Epoch: epoch})
	if err != nil {
		return nil, err
	}
	for _, r := range relations {
		lanes[r.WebhookID] = append(lanes[r.WebhookID], r.Lane)
		out.Deliveries += r.Deliveries
	}
	return lanes, nil
}

// Tidy implements webhook.Source.
func (s *Webhooks) Tidy(ctx context.Context, log, sessions time.Time, step int) (more bool, err error) {
	most := int32(step) //nolint:gosec // a constant
	old, err := s.q.WebhookTrimDeliveries(ctx, s.pool, sqlc.WebhookTrimDeliveriesParams{Before: log, AtMost: most})
	if err != nil {
		return false, Fault(err)
	}
	orphans, err := s.q.WebhookTrimOrphans(ctx, s.pool, most)
	if err != nil {
		return false, Fault(err)
	}
	places, err := s.q.WebhookTrimSessions(ctx, s.pool, sqlc.WebhookTrimSessionsParams{Before: sessions, AtMost: most})
	return max(old, orphans, places) == int64(step), Fault(err)
}
