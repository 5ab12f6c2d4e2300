package storage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/relation"
)

// relationLedger implements relation.Ledger.
type relationLedger struct {
	q              *sqlc.Queries
	tx             pgx.Tx
	userID, peerID string
	standing       relation.Standing
	ownAt, otherAt *time.Time
}

func (l *relationLedger) scanPair(rows pgx.Rows) error {
	for rows.Next() {
		var r sqlc.RelationPairRow
		if err := rows.Scan(&r.UserID, &r.Kind, &r.UpdatedAt); err != nil {
			return err
		}
		if r.UserID == l.userID {
			l.standing.Own, l.ownAt = relation.Mark(r.Kind), &r.UpdatedAt
		} else {
			l.standing.Other, l.otherAt = relation.Mark(r.Kind), &r.UpdatedAt
		}
	}
	return rows.Err()
}

func (l *relationLedger) Standing() (relation.Standing, time.Time) {
	if t := since(l.standing.Pair, l.ownAt, l.otherAt); t != nil {
		return l.standing, t.UTC()
	}
	return l.standing, time.Time{}
}

func (l *relationLedger) Count(ctx context.Context, of ...relation.Mark) (int64, error) {
	return l.q.RelationCount(ctx, l.tx, sqlc.RelationCountParams{UserID: l.userID, Kinds: marks(of...)})
}

// Save writes both directions in one round trip. A user who sees a change without one in an own row is noted by hand:
// the trigger on user_to_user notes who owns the row that changed, and nobody else, so that a block tells other nodes
// nothing about the user who was blocked.
func (l *relationLedger) Save(ctx context.Context, before, after relation.Pair, now time.Time) error {
	var batch pgx.Batch
	l.queue(&batch, l.userID, l.peerID, before, after, now)
	l.queue(&batch, l.peerID, l.userID, before.Flip(), after.Flip(), now)
	return l.tx.SendBatch(ctx, &batch).Close()
}

// queue writes the direction that is Own in both pairs.
func (l *relationLedger) queue(batch *pgx.Batch, userID, peerID string, before, after relation.Pair, now time.Time) {
	if after.Own == before.Own {
		if after.Kind() != before.Kind() {
			batch.Queue(sqlc.RelationNote, userID, peerID)
		}
		return
	}
	if after.Own == relation.Unmarked {
		batch.Queue(sqlc.RelationDelete, userID, peerID)
		return
	}
	batch.Queue(sqlc.RelationPut, userID, peerID, int16(after.Own), now)
}
