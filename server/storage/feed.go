package storage

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/server/feed"
)

// Feed reads what has committed.
type Feed struct{ *DB }

// Poll implements feed.Store.
func (s Feed) Poll(ctx context.Context, since string) (out feed.Batch, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error {
			out = feed.Batch{}
			now, err := s.q.FeedSnapshot(ctx, tx)
			if err != nil {
				return err
			}
			out.Snapshot, out.Epoch = now.Snapshot, now.Epoch
			if since == "" {
				return nil
			}
			commits, err := s.q.FeedCommits(ctx, tx, since)
			if err != nil {
				return err
			}
			for _, c := range commits {
				out.Commits = append(out.Commits, feed.Commit{ID: c.ID, Sessions: c.SessionIds, Heads: c.Heads,
					StateUsers: c.StateUsers, StateSessions: c.StateSessions,
					SentUsers: c.SentUsers, SentSessions: c.SentSessions, Recalls: c.Recalls,
					StreamUsers: c.StreamUsers, StreamDevices: c.StreamDevices, StreamNumbers: c.StreamNumbers})
			}
			relations, err := s.q.FeedRelations(ctx, tx, since)
			if err != nil {
				return err
			}
			for _, r := range relations {
				out.Relations = append(out.Relations, feed.Relation{Kind: feed.RelationKind(r.Kind), UserID: r.UserID, OtherID: r.OtherID})
			}
			return nil
		})
	return out, Fault(err)
}

// Recalls implements feed.Store.
func (s Feed) Recalls(ctx context.Context) ([]uuid.UUID, error) {
	ids, err := s.q.FeedRecalls(ctx, s.pool)
	return ids, Fault(err)
}

// Trim implements feed.Store.
func (s Feed) Trim(ctx context.Context, until string) (int64, error) {
	commits, err := s.q.FeedTrimCommits(ctx, s.pool, until)
	if err != nil {
		return 0, Fault(err)
	}
	relations, err := s.q.FeedTrimRelations(ctx, s.pool, until)
	return commits + relations, Fault(err)
}
