package storage

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
)

// States implements state.Store.
type States struct{ *DB }

// Change implements state.Store. The locks and what is read under them travel together; the rows stay locked for two or
// three round trips and the commit, which matters because the users' own sends wait for them with their sessions locked.
func (s States) Change(ctx context.Context, keys []state.Key, wait bool, fn func(ctx context.Context, l state.Ledger) error) error {
	return s.InTx(ctx, func(tx pgx.Tx) error {
		l := &stateLedger{q: s.q, tx: tx, held: make(map[state.Key]*heldState, len(keys))}
		if err := l.lock(ctx, keys, wait); err != nil {
			return err
		}
		return fn(ctx, l)
	})
}

// Standing implements state.Store.
func (s States) Standing(ctx context.Context, userID string, sessionID uuid.UUID) (state.Standing, bool, error) {
	st, ok, err := scanStanding(s.pool.QueryRow(ctx, sqlc.StateStanding, userID, sessionID))
	return st, ok, Fault(err)
}

func scanStanding(row pgx.Row) (st state.Standing, ok bool, err error) {
	var r sqlc.StateStandingRow
	err = row.Scan(&r.ReadSeq, &r.DeletedToSeq, &r.MarkedUnread, &r.Active, &r.LastSeq, &r.Visible)
	if errors.Is(err, pgx.ErrNoRows) {
		return st, false, nil
	}
	if err != nil {
		return st, false, err
	}
	st = state.Standing{Visible: intervals(r.Visible), Head: r.LastSeq, Active: r.Active, ReadSeq: r.ReadSeq,
		DeletedToSeq: r.DeletedToSeq, MarkedUnread: r.MarkedUnread}
	return st, true, nil
}

// intervals reads ranges in canonical form: from included, to excluded or infinite.
func intervals(ranges pgtype.Multirange[pgtype.Range[pgtype.Int8]]) (out session.Visibility) {
	for _, v := range ranges {
		i := session.Interval{From: v.Lower.Int64, To: session.Open}
		if v.Upper.Valid {
			i.To = v.Upper.Int64 - 1
		}
		out = append(out, i)
	}
	return out
}

// Views implements state.Store.
func (s States) Views(ctx context.Context, userID string, sessionIDs []uuid.UUID) ([]state.View, error) {
	rows, err := s.q.StateViews(ctx, s.pool, sqlc.StateViewsParams{UserID: userID, SessionIds: sessionIDs})
	if err != nil {
		return nil, Fault(err)
	}
	views := make([]state.View, 0, len(rows))
	for _, r := range rows {
		views = append(views, state.View(r))
	}
	return views, nil
}

// Unread implements state.Store.
func (s States) Unread(ctx context.Context, userID string) ([]state.View, error) {
	rows, err := s.q.StateUnreadList(ctx, s.pool, userID)
	if err != nil {
		return nil, Fault(err)
	}
	views := make([]state.View, 0, len(rows))
	for _, r := range rows {
		views = append(views, state.View{
			SessionID: r.SessionID, Active: true, ReadSeq: r.ReadSeq, DeletedToSeq: r.DeletedToSeq,
			MarkedUnread: r.MarkedUnread, Unread: r.Unread,
		})
	}
	return views, nil
}

// maxWhole is up to how many exceptions of a session Kept returns all; of more, those within the ranges.
const maxWhole = 500

// Kept implements state.Store.
func (s States) Kept(ctx context.Context, userID string, ranges []message.Range) ([]state.Kept, error) {
	arg := sqlc.StateKeptParams{UserID: userID, MaxExceptions: maxWhole}
	for _, r := range ranges {
		arg.SessionIds = append(arg.SessionIds, r.SessionID)
		arg.FromSeqs = append(arg.FromSeqs, r.From)
		arg.ToSeqs = append(arg.ToSeqs, r.To)
	}
	rows, err := s.q.StateKept(ctx, s.pool, arg)
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]state.Kept, 0, len(rows))
	for _, r := range rows {
		k := state.Kept{SessionID: r.SessionID, ReadSeq: r.ReadSeq, DeletedToSeq: r.DeletedToSeq, MarkedUnread: r.MarkedUnread, Whole: r.IsWhole}
		for i, seq := range r.Seqs {
			k.Exceptions = append(k.Exceptions, state.Exception{SessionID: r.SessionID, Seq: seq, Read: r.Reads[i], Deleted: r.Deletes[i]})
		}
		out = append(out, k)
	}
	return out, nil
}

// Entries implements state.Store.
func (s States) Entries(ctx context.Context, userID string, sessionID uuid.UUID, in []session.Interval) (
	e state.Entries, ok bool, err error,
) {
	arg := sqlc.StateEntriesParams{UserID: userID, SessionID: sessionID}
	arg.FromSeqs, arg.ToSeqs = bounds(in)
	rows, err := s.q.StateEntries(ctx, s.pool, arg)
	if err != nil || len(rows) == 0 {
		return e, false, Fault(err)
	}
	e.ReadSeq, e.DeletedToSeq = rows[0].ReadSeq, rows[0].DeletedToSeq
	e.List = make([]state.Entry, 0, len(rows))
	for _, r := range rows {
		e.List = append(e.List, state.Entry{
			Seq: r.SeqID, MessageID: r.MsgID, Own: r.Own, Countable: r.Countable, Read: r.IsRead, Deleted: r.IsDelete,
		})
	}
	return e, true, nil
}

// Readers implements state.Store.
func (s States) Readers(ctx context.Context, sessionID uuid.UUID, seq int64, after string, maxUsers int) (int64, []string, error) {
	r, err := s.q.StateReaders(ctx, s.pool, sqlc.StateReadersParams{
		SessionID: sessionID, Seq: seq, AfterUser: after, MaxUsers: int32(maxUsers), //nolint:gosec // at most state.MaxPage + 1
	})
	return r.Total, r.UserIds, Fault(err)
}

// bounds turns intervals into the ranges (from, to] that queries take.
func bounds(in []session.Interval) (from, to []int64) {
	for _, i := range in {
		from, to = append(from, i.From-1), append(to, i.To)
	}
	return from, to
}
