package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/roster"
)

// Roster implements roster.Store.
type Roster struct{ *DB }

// whole are the tables in the order in which they are read: users first, whose numbers the rest needs.
var whole = []struct {
	kind feed.RelationKind
	sql  string
}{
	{feed.User, sqlc.RosterUsers},
	{feed.UserToUser, sqlc.RosterRelations},
	{feed.UserToDevice, sqlc.RosterDevices},
	{feed.UserToSession, sqlc.RosterMemberships},
}

// Scan implements roster.Store. Rows go from the connection's buffer to the visitor without being decoded.
func (s Roster) Scan(ctx context.Context, v roster.Visitor, sums bool) (out roster.Sums, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		func(tx pgx.Tx) error {
			if err := s.q.RosterPrepare(ctx, tx); err != nil {
				return err
			}
			if v != nil {
				for _, table := range whole {
					if err := scanTable(ctx, tx, table.kind, table.sql, v); err != nil {
						return err
					}
				}
			}
			if !sums {
				return nil
			}
			rows, err := s.q.RosterSums(ctx, tx)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if err := setSum(&out, r); err != nil {
					return err
				}
			}
			return nil
		})
	if errors.Is(err, roster.ErrTooLarge) {
		return out, err
	}
	return out, Fault(err)
}

// binaryResults: the ids as bytes, and traits in their last byte whether they are a boolean or a small integer.
var binaryResults = pgx.QueryResultFormats{pgx.BinaryFormatCode}

func scanTable(ctx context.Context, tx pgx.Tx, kind feed.RelationKind, sql string, v roster.Visitor) error {
	rows, err := tx.Query(ctx, sql, binaryResults)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		var other []byte
		if len(raw) > 2 {
			other = raw[1]
		}
		traits := raw[len(raw)-1]
		if err := v.Row(kind, raw[0], other, traits[len(traits)-1]); err != nil {
			return err
		}
	}
	return rows.Err()
}

func setSum(out *roster.Sums, r sqlc.RosterSumsRow) error {
	n, ok := new(big.Int).SetString(r.Sum, 10)
	if !ok {
		return fmt.Errorf("sum of relation %d is no number", r.Kind)
	}
	var hash [8]byte
	n.Mod(n, new(big.Int).Lsh(big.NewInt(1), 64)).FillBytes(hash[:])
	*out.Of(feed.RelationKind(r.Kind)) = roster.Sum{Rows: r.RowCount, Hash: binary.BigEndian.Uint64(hash[:])}
	return nil
}

// Again implements roster.Store.
func (s Roster) Again(ctx context.Context, kind feed.RelationKind, keys []feed.Relation) (out []roster.Row, err error) {
	users, others := make([]string, 0, len(keys)), make([]string, 0, len(keys))
	for _, k := range keys {
		users, others = append(users, k.UserID), append(others, k.OtherID)
	}
	add := func(user, other string, traits uint8) {
		out = append(out, roster.Row{Relation: feed.Relation{Kind: kind, UserID: user, OtherID: other}, Traits: traits})
	}
	switch kind {
	case feed.User:
		rows, e := s.q.RosterUsersAgain(ctx, s.pool, users)
		for _, r := range rows {
			add(r.UserID, "", bit(r.Deactivated))
		}
		err = e
	case feed.UserToUser:
		rows, e := s.q.RosterRelationsAgain(ctx, s.pool, sqlc.RosterRelationsAgainParams{UserIds: users, PeerIds: others})
		for _, r := range rows {
			add(r.UserID, r.PeerID, uint8(r.Kind)) //nolint:gosec // 1 to 3
		}
		err = e
	case feed.UserToDevice:
		rows, e := s.q.RosterDevicesAgain(ctx, s.pool, sqlc.RosterDevicesAgainParams{UserIds: users, DeviceIds: others})
		for _, r := range rows {
			add(r.UserID, r.DeviceID, bit(r.Revoked))
		}
		err = e
	case feed.UserToSession:
		rows, e := s.q.RosterMembershipsAgain(ctx, s.pool, sqlc.RosterMembershipsAgainParams{
			UserIds: users, SessionIds: sessionIDs(others)})
		for _, r := range rows {
			add(r.UserID, r.SessionID.String(), uint8(r.Traits)) //nolint:gosec // 4 bits
		}
		err = e
	}
	return out, Fault(err)
}

// sessionIDs parses ids in order. One that is none, which only a change written by hand can name, is asked for as the
// nil id, which no session has.
func sessionIDs(texts []string) []uuid.UUID {
	out := make([]uuid.UUID, len(texts))
	for i, text := range texts {
		out[i], _ = uuid.Parse(text) // the zero value, as said
	}
	return out
}

func bit(set bool) uint8 {
	if set {
		return 1
	}
	return 0
}
