package storage

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/state"
)

// nearestExceptions is how many rows below the old watermark a change looks at for exceptions that say nothing any more.
const nearestExceptions = 100

// stateLedger implements state.Ledger.
type stateLedger struct {
	q    *sqlc.Queries
	tx   pgx.Tx
	held map[state.Key]*heldState
}

// heldState is what is known of a key. any is false where it has no exceptions for sure.
type heldState struct {
	standing state.Standing
	hold     state.Hold
	any      bool
}

// lock takes the locks, then reads what is under them. A key that has a standing and no lock is busy.
func (l *stateLedger) lock(ctx context.Context, keys []state.Key, wait bool) error {
	users, sessions := columns(keys)
	var batch pgx.Batch
	locked := make(map[state.Key]struct{}, len(keys))
	take := func(rows pgx.Rows) error {
		var k state.Key
		_, err := pgx.ForEachRow(rows, []any{&k.UserID, &k.SessionID}, func() error {
			locked[k] = struct{}{}
			return nil
		})
		return err
	}
	if wait {
		for _, k := range keys {
			batch.Queue(sqlc.StateLock, k.UserID, k.SessionID).Query(take)
		}
	} else {
		batch.Queue(sqlc.StateLockMany, users, sessions).Query(take)
	}
	batch.Queue(sqlc.StateStandingMany, users, sessions).Query(func(rows pgx.Rows) error {
		var r sqlc.StateStandingManyRow
		_, err := pgx.ForEachRow(rows, []any{&r.UserID, &r.SessionID, &r.ReadSeq, &r.DeletedToSeq, &r.MarkedUnread, &r.Active,
			&r.LastSeq, &r.Visible, &r.AnyExceptions}, func() error {
			h := &heldState{hold: state.Busy, any: r.AnyExceptions, standing: state.Standing{Visible: intervals(r.Visible),
				Head: r.LastSeq, Active: r.Active, ReadSeq: r.ReadSeq, DeletedToSeq: r.DeletedToSeq, MarkedUnread: r.MarkedUnread}}
			k := state.Key{UserID: r.UserID, SessionID: r.SessionID}
			if _, ok := locked[k]; ok {
				h.hold = state.Held
			}
			l.held[k] = h
			return nil
		})
		return err
	})
	return l.tx.SendBatch(ctx, &batch).Close()
}

func columns(keys []state.Key) (users []string, sessions []uuid.UUID) {
	users, sessions = make([]string, len(keys)), make([]uuid.UUID, len(keys))
	for i, k := range keys {
		users[i], sessions[i] = k.UserID, k.SessionID
	}
	return users, sessions
}

func (l *stateLedger) Standing(k state.Key) (state.Standing, state.Hold) {
	if h := l.held[k]; h != nil {
		return h.standing, h.hold
	}
	return state.Standing{}, state.Missing
}

// Except spares the statements that cannot find anything: exceptions that the cursor covers, and a look at nothing.
func (l *stateLedger) Except(ctx context.Context, wants []state.Want) ([]state.Found, error) {
	found := make([]state.Found, len(wants))
	batch := &pipeline{}
	for i, w := range wants {
		if len(w.Seqs) > 0 && w.Seqs[len(w.Seqs)-1] > w.Above {
			_, err := l.q.StateExcept(ctx, batch, sqlc.StateExceptParams{UserID: w.Key.UserID, SessionID: w.Key.SessionID,
				Seqs: w.Seqs, AboveSeq: w.Above, IsDelete: w.Deleted})
			batch.queued(err)
			batch.last().Query(func(rows pgx.Rows) (err error) {
				found[i].Changed, err = pgx.CollectRows(rows, pgx.RowTo[int64])
				slices.Sort(found[i].Changed) // RETURNING has no order
				return err
			})
		}
		if len(w.In) > 0 {
			from, to := bounds(w.In)
			_, err := l.q.StateFirstUnread(ctx, batch, sqlc.StateFirstUnreadParams{UserID: w.Key.UserID,
				SessionID: w.Key.SessionID, FromSeqs: from, ToSeqs: to})
			batch.queued(err)
			batch.last().QueryRow(func(row pgx.Row) error {
				err := row.Scan(&found[i].FirstUnread)
				if errors.Is(err, pgx.ErrNoRows) {
					return nil
				}
				return err
			})
		}
	}
	if batch.Len() == 0 {
		return found, nil
	}
	return found, l.tx.SendBatch(ctx, &batch.Batch).Close()
}

// Save sends all it does in one round trip; the count comes last and sees the rest.
func (l *stateLedger) Save(ctx context.Context, moves []state.Move, asked []state.Key) (map[state.Key]int64, int64, error) {
	batch := &pipeline{}
	var commitLogID int64
	if len(moves) > 0 {
		save, note := sqlc.StateSaveManyParams{}, sqlc.CommitLogAppendParams{SessionIds: []uuid.UUID{}, Heads: []int64{}}
		for _, m := range moves {
			save.UserIds = append(save.UserIds, m.Key.UserID)
			save.SessionIds = append(save.SessionIds, m.Key.SessionID)
			save.ReadSeqs = append(save.ReadSeqs, m.After.ReadSeq)
			save.DeletedToSeqs = append(save.DeletedToSeqs, m.After.DeletedToSeq)
			save.MarkedUnreads = append(save.MarkedUnreads, m.After.MarkedUnread)
		}
		batch.queued(l.q.StateSaveMany(ctx, batch, save))
		for _, m := range moves {
			l.forget(ctx, batch, m)
		}
		note.StateUsers, note.StateSessions = save.UserIds, save.SessionIds
		_, err := l.q.CommitLogAppend(ctx, batch, note)
		batch.queued(err)
		batch.last().QueryRow(func(row pgx.Row) error { return row.Scan(&commitLogID) })
	}
	unread := make(map[state.Key]int64, len(asked))
	users, sessions := columns(asked)
	_, err := l.q.StateUnreadMany(ctx, batch, sqlc.StateUnreadManyParams{UserIds: users, SessionIds: sessions})
	batch.queued(err)
	batch.last().Query(func(rows pgx.Rows) error {
		var k state.Key
		var n int64
		_, err := pgx.ForEachRow(rows, []any{&k.UserID, &k.SessionID, &n}, func() error {
			unread[k] = n
			return nil
		})
		return err
	})
	err = l.tx.SendBatch(ctx, &batch.Batch).Close()
	return unread, commitLogID, err
}

// forget queues the dropping of exceptions that cursors now cover, where there may be any.
func (l *stateLedger) forget(ctx context.Context, batch *pipeline, m state.Move) {
	if h := l.held[m.Key]; !m.Made && h != nil && !h.any {
		return
	}
	if m.After.DeletedToSeq > m.Before.DeletedToSeq {
		batch.queued(l.q.StateForgetDeleted(ctx, batch, sqlc.StateForgetDeletedParams{
			UserID: m.Key.UserID, SessionID: m.Key.SessionID, DeletedToSeq: m.After.DeletedToSeq}))
	}
	if m.After.ReadSeq > m.Before.ReadSeq {
		batch.queued(l.q.StateForgetRead(ctx, batch, sqlc.StateForgetReadParams{UserID: m.Key.UserID, SessionID: m.Key.SessionID,
			ReadSeq: m.After.ReadSeq, BeforeSeq: m.Before.ReadSeq, Nearest: nearestExceptions}))
	}
}
