package storage_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/storage"
)

// saboteur ends the connection of some transaction in its middle, once in twenty commits. Which are in their middle just then
// is chance, so that the first one is held there: it waits for a session that the saboteur has locked.
type saboteur struct {
	*storage.Messages
	pool  *pgxpool.Pool
	held  uuid.UUID     // the session
	over  chan struct{} // closed when nobody sends any more
	n     atomic.Int64
	ended atomic.Int64
	wg    sync.WaitGroup
}

func (s *saboteur) Append(ctx context.Context, drafts []message.Draft, now time.Time) ([]committer.Outcome, error) {
	switch n := s.n.Add(1); {
	case n == 2:
		s.wg.Go(s.hold)
	case n%20 == 0:
		s.wg.Go(func() {
			tag, err := s.pool.Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' LIMIT 1`)
			if err == nil {
				s.ended.Add(tag.RowsAffected())
			}
		})
	}
	return s.Messages.Append(ctx, drafts, now)
}

// hold locks the session and ends who waits for it. It begins again where its own connection was ended meanwhile, and gives
// up after some minutes, in which the others wait for the session: then the test finds that nobody was ended.
func (s *saboteur) hold() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for done := false; !done && ctx.Err() == nil; {
		select {
		case <-s.over:
			return
		default:
		}
		_ = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT FROM session WHERE session_id = $1 FOR UPDATE`, s.held); err != nil {
				return err
			}
			for {
				// Not by pg_stat_activity, of which a transaction sees only those who were there when it looked first.
				tag, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_locks
					WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))`)
				if err != nil {
					return err
				}
				s.ended.Add(tag.RowsAffected())
				if done = tag.RowsAffected() > 0; done {
					return nil
				}
				select {
				case <-s.over:
					return nil
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
}
