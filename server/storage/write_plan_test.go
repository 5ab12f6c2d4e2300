package storage_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/storage"
)

// Like sends, marks and the noting of live devices touch rows in the number of what they change only, on plans that were made
// while tables were small, whatever PostgreSQL believed of the tables' sizes then.
func TestMarksAndSightingsLookUpByKeyWhateverTheStatisticsSay(t *testing.T) {
	const members, sessions, items = 200, 20, 20
	users := make([]string, members)
	for i := range users {
		users[i] = fmt.Sprintf("user%03d", i)
	}
	for _, taken := range []string{"never", "of empty tables", "of a handful of rows", "of grown tables"} {
		t.Run("statistics "+taken, func(t *testing.T) {
			pool, err := storage.OpenPool(t.Context(), testenv.PostgresURL(t), 1) // one connection, whose plans are kept
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			db := storage.New(pool)
			analyse := func(when string) {
				if when == taken {
					exec(t, pool, `VACUUM (ANALYZE) session, user_to_session, msg_state, app_user, user_to_device`)
				}
			}
			mark := func(keys []state.Key) func() error {
				return func() error {
					return storage.States{DB: db}.Change(t.Context(), keys, true, func(ctx context.Context, l state.Ledger) error {
						moves := make([]state.Move, len(keys))
						for i, k := range keys {
							moves[i].Key = k
							moves[i].Before, _ = l.Standing(k)
							moves[i].After = moves[i].Before
							moves[i].After.ReadSeq++
						}
						_, _, err := l.Save(ctx, moves, keys[:1])
						return err
					})
				}
			}
			seen := func(users []string) func() error {
				devices, numbers, at := make([]string, len(users)), make([]int64, len(users)), make([]time.Time, len(users))
				for i := range users {
					devices[i], numbers[i], at[i] = "d", 1, time.Now()
				}
				return func() error { return storage.Devices{DB: db}.SetSeen(t.Context(), users, devices, numbers, at) }
			}

			number := func(sql string, args ...any) (n int) {
				require.NoError(t, pool.QueryRow(t.Context(), sql, args...).Scan(&n))
				return n
			}

			analyse("of empty tables")
			addUsers(t, pool, users[:2]...)
			few := addGroup(t, pool, users[:2]...)
			exec(t, pool, `UPDATE session SET last_seq = 100`)
			analyse("of a handful of rows")
			for range 8 { // so often that all plans are the generic ones, which are kept
				require.NoError(t, mark([]state.Key{{UserID: users[0], SessionID: few}, {UserID: users[1], SessionID: few}})())
				require.NoError(t, seen(users[:2])())
			}
			addUsers(t, pool, users[2:]...)
			ids := make([]uuid.UUID, sessions)
			for i := range ids {
				ids[i] = uuid.New()
			}
			exec(t, pool, `INSERT INTO session (session_id, kind, owner_id, member_count, last_seq, created_at)
				SELECT unnest($1::uuid[]), 2, 'user000', $2, 100, now()`, ids, members)
			exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
				SELECT u, s, 1, 1, 1 FROM unnest($1::text[]) u, unnest($2::uuid[]) s`, users, ids)
			analyse("of grown tables")

			var keys []state.Key
			for i := range items {
				keys = append(keys, state.Key{UserID: users[i*7%members], SessionID: ids[i*3%sessions]})
			}
			for table, rows := range rowsRead(t, pool, mark(keys), "session", "user_to_session", "msg_state") {
				require.LessOrEqual(t, rows, int64(5*items), "%s, for marks", table)
			}
			require.Equal(t, items, number(`SELECT count(*) FROM user_to_session WHERE read_seq = 1 AND session_id <> $1`, few))
			rows := rowsRead(t, pool, seen(users[100:100+items]), "user_to_device")["user_to_device"]
			require.LessOrEqual(t, rows, int64(5*items), "for sightings")
			require.Equal(t, items, number(`SELECT count(*) FROM user_to_device WHERE last_seen_at IS NOT NULL AND user_id >= 'user100'`))
		})
	}
}
