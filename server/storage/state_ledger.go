package storage

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
)

// nearestExceptions is how many rows below the old watermark a change looks at for exceptions that say nothing any more.
const nearestExceptions = 100

// stateLedger implements state.Ledger.
type stateLedger struct {
	q         *sqlc.Queries
	tx        pgx.Tx
	userID    string
	sessionID uuid.UUID
	standing  state.Standing
	found     bool
}

func (l *stateLedger) Standing() (state.Standing, bool) { return l.standing, l.found }

func (l *stateLedger) Read(ctx context.Context, seqs []int64, above int64) ([]int64, error) {
	return l.except(ctx, seqs, above, false)
}

func (l *stateLedger) Delete(ctx context.Context, seqs []int64, above int64) ([]int64, error) {
	return l.except(ctx, seqs, above, true)
}

// except spares the statement where the cursor covers all of the seqs, which ascend.
func (l *stateLedger) except(ctx context.Context, seqs []int64, above int64, deleted bool) ([]int64, error) {
	if len(seqs) == 0 || seqs[len(seqs)-1] <= above {
		return nil, nil
	}
	changed, err := l.q.StateExcept(ctx, l.tx, sqlc.StateExceptParams{
		UserID: l.userID, SessionID: l.sessionID, Seqs: seqs, AboveSeq: above, IsDelete: deleted,
	})
	slices.Sort(changed) // RETURNING has no order
	return changed, err
}

func (l *stateLedger) FirstUnread(ctx context.Context, in []session.Interval) (int64, error) {
	arg := sqlc.StateFirstUnreadParams{UserID: l.userID, SessionID: l.sessionID}
	arg.FromSeqs, arg.ToSeqs = bounds(in)
	seq, err := l.q.StateFirstUnread(ctx, l.tx, arg)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

// Save sends all it does in one round trip; the count comes last and sees the rest.
func (l *stateLedger) Save(ctx context.Context, before, after state.Standing) (unread, commitLogID int64, err error) {
	var batch pgx.Batch
	batch.Queue(sqlc.StateSave, after.ReadSeq, after.DeletedToSeq, after.MarkedUnread, l.userID, l.sessionID)
	if after.DeletedToSeq > before.DeletedToSeq {
		batch.Queue(sqlc.StateForgetDeleted, l.userID, l.sessionID, after.DeletedToSeq)
	}
	if after.ReadSeq > before.ReadSeq {
		batch.Queue(sqlc.StateForgetRead, l.userID, l.sessionID, after.ReadSeq, before.ReadSeq, nearestExceptions)
	}
	batch.Queue(sqlc.CommitLogAppend, []uuid.UUID{}, []int64{}, []string{l.userID}, []uuid.UUID{l.sessionID}, []uuid.UUID{}).
		QueryRow(func(row pgx.Row) error { return row.Scan(&commitLogID) })
	l.queueUnread(&batch, &unread)
	err = l.tx.SendBatch(ctx, &batch).Close()
	return unread, commitLogID, err
}

func (l *stateLedger) Unread(ctx context.Context) (unread int64, err error) {
	var batch pgx.Batch
	l.queueUnread(&batch, &unread)
	err = l.tx.SendBatch(ctx, &batch).Close()
	return unread, err
}

func (l *stateLedger) queueUnread(batch *pgx.Batch, unread *int64) {
	batch.Queue(sqlc.StateViews, l.userID, []uuid.UUID{l.sessionID}).QueryRow(func(row pgx.Row) error {
		var v sqlc.StateViewsRow
		err := row.Scan(&v.SessionID, &v.Active, &v.ReadSeq, &v.DeletedToSeq, &v.MarkedUnread, &v.Unread)
		*unread = v.Unread
		return err
	})
}
