package storage

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/relation"
)

// listedReceived is how RelationList says that a row is a request received; no row of user_to_user has this kind.
const listedReceived = 4

// Relations implements relation.Store.
type Relations struct{ *DB }

// Change implements relation.Store. The locks and what is read under them travel together. Byte order of the ids is the
// lock order, so that two users who act on each other at the same time wait for each other and not crosswise.
func (s Relations) Change(ctx context.Context, userID, peerID string,
	fn func(ctx context.Context, l relation.Ledger) error,
) error {
	return s.InTx(ctx, func(tx pgx.Tx) error {
		l := &relationLedger{q: s.q, tx: tx, userID: userID, peerID: peerID}
		var batch pgx.Batch
		queueCaller := func() {
			batch.Queue(sqlc.UserLock, userID).QueryRow(scanUser(&l.standing.CallerKnown, &l.standing.CallerActive))
		}
		queuePeer := func() {
			batch.Queue(sqlc.UserLockShared, peerID).QueryRow(scanUser(&l.standing.PeerKnown, &l.standing.PeerActive))
		}
		if userID < peerID {
			queueCaller()
			queuePeer()
		} else {
			queuePeer()
			queueCaller()
		}
		batch.Queue(sqlc.RelationPair, userID, peerID).Query(l.scanPair)
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		return fn(ctx, l)
	})
}

func scanUser(known, active *bool) func(pgx.Row) error {
	return func(row pgx.Row) error {
		var deactivated bool
		err := row.Scan(&deactivated)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		*known, *active = true, !deactivated
		return err
	}
}

// List implements relation.Store.
func (s Relations) List(ctx context.Context, userID string, kind relation.Kind, after string, limit int) ([]relation.Relation, error) {
	kinds, received := listed(kind)
	rows, err := s.q.RelationList(ctx, s.pool, sqlc.RelationListParams{
		UserID: userID, AfterUser: after, Kinds: kinds, Received: received,
		MaxRows: int32(limit), //nolint:gosec // a page and one more
	})
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]relation.Relation, 0, len(rows))
	for _, r := range rows {
		k := relation.RequestReceived
		if r.Kind != listedReceived {
			k = relation.Pair{Own: relation.Mark(r.Kind)}.Kind()
		}
		out = append(out, relation.Relation{UserID: r.OtherID, Kind: k, UpdatedAt: r.UpdatedAt.UTC()})
	}
	return out, nil
}

// listed says which rows of a user's own, and whether requests received, make up a kind; None stands for all.
func listed(kind relation.Kind) (own []int16, received bool) {
	switch kind {
	case relation.None:
		return marks(relation.MarkFriend, relation.MarkRequested, relation.MarkBlocked), true
	case relation.RequestReceived:
		return marks(), true
	case relation.Friend:
		return marks(relation.MarkFriend), false
	case relation.Requested:
		return marks(relation.MarkRequested), false
	default:
		return marks(relation.MarkBlocked), false
	}
}

func marks(of ...relation.Mark) []int16 {
	out := make([]int16, len(of)) // never nil: that would be NULL, which equals nothing
	for i, m := range of {
		out[i] = int16(m)
	}
	return out
}

// Views implements relation.Store.
func (s Relations) Views(ctx context.Context, links []relation.Link) ([]relation.Relation, error) {
	var p sqlc.RelationViewsParams
	for _, l := range links {
		p.UserIds, p.PeerIds = append(p.UserIds, l.UserID), append(p.PeerIds, l.PeerID)
	}
	rows, err := s.q.RelationViews(ctx, s.pool, p)
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]relation.Relation, len(links))
	for _, r := range rows {
		i := r.Ord - 1
		pair := relation.Pair{Own: relation.Mark(r.Own), Other: relation.Mark(r.Other)}
		out[i] = relation.Relation{UserID: links[i].PeerID, Kind: pair.Kind()}
		if t := since(pair, r.OwnAt, r.OtherAt); t != nil {
			out[i].UpdatedAt = t.UTC()
		}
	}
	return out, nil
}

// since picks the time of the mark that makes a pair's kind; nil for none.
func since(p relation.Pair, own, other *time.Time) *time.Time {
	switch p.Kind() {
	case relation.None:
		return nil
	case relation.RequestReceived:
		return other
	default:
		return own
	}
}
