package storage_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/storage"
)

// planItems is how many messages a batch of planBatches has.
const planItems = 20

// planBatches are batches of all kinds that parley_append treats in different ways, of the first two users.
var planBatches = map[string]func(ids []uuid.UUID, users []string) []message.Draft{
	"all pass": planBatch,
	"one is refused": func(ids []uuid.UUID, users []string) []message.Draft {
		drafts := planBatch(ids, users)
		drafts[planItems/2].SenderID = "a stranger"
		return drafts
	},
	"a user sends from two devices": func(ids []uuid.UUID, users []string) []message.Draft {
		drafts := planBatch(ids, users)
		drafts[0].SenderID, drafts[1].SenderID = users[0], users[0]
		drafts[1].SessionID, drafts[1].SenderDevice = drafts[0].SessionID, "e"
		return drafts
	},
}

func planBatch(ids []uuid.UUID, users []string) []message.Draft {
	drafts := make([]message.Draft, planItems)
	for i := range drafts {
		drafts[i] = draftOf(ids[i*7%len(ids)], users[i%2], "x")
	}
	return drafts
}

// Plans are made while tables are small and kept as they grow. Whatever PostgreSQL believed of the tables' sizes then, a
// batch may touch rows in the number of its items only: a look-up by key for each, and no scan.
func TestAppendLooksUpByKeyWhateverTheStatisticsSay(t *testing.T) {
	const sessions, members = 300, 10
	for _, taken := range []string{"never", "of empty tables", "of a handful of rows", "of grown tables"} {
		t.Run("statistics "+taken, func(t *testing.T) {
			pool, err := storage.OpenPool(t.Context(), testenv.PostgresURL(t), 1) // one connection, whose plans are kept
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			s := storage.NewMessages(storage.New(pool))
			users := make([]string, members)
			for i := range users {
				users[i] = fmt.Sprintf("user%02d", i)
			}
			analyse := func(when string) {
				if when == taken {
					exec(t, pool, `VACUUM (ANALYZE) session, user_to_session, msg, app_user, user_to_device`)
				}
			}
			analyse("of empty tables")
			addUsers(t, pool, users...)
			exec(t, pool, `INSERT INTO user_to_device (user_id, device_id, created_at) VALUES ($1, 'e', now())`, users[0])
			few := addGroup(t, pool, users[:2]...)
			analyse("of a handful of rows")
			for _, batch := range planBatches {
				for range 8 { // so often that all plans are the generic ones, which are kept
					touched(t, pool, s, batch([]uuid.UUID{few}, users))
				}
			}
			var ids []uuid.UUID
			for range sessions {
				ids = append(ids, uuid.New())
			}
			exec(t, pool, `INSERT INTO session (session_id, kind, owner_id, member_count, created_at)
				SELECT unnest($1::uuid[]), 2, 'user00', $2, now()`, ids, members)
			exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
				SELECT u, s, 1, 1, 1 FROM unnest($1::text[]) u, unnest($2::uuid[]) s`, users, ids)
			analyse("of grown tables")
			for kind, batch := range planBatches {
				for table, rows := range touched(t, pool, s, batch(ids, users)) {
					require.LessOrEqual(t, rows, int64(5*planItems), "%s, batch where %s", table, kind)
				}
			}
		})
	}
}

// touched appends and returns how many rows of each table were read meanwhile, in scans and by key.
func touched(t *testing.T, pool *pgxpool.Pool, s *storage.Messages, drafts []message.Draft) map[string]int64 {
	t.Helper()
	rows := rowsRead(t, pool, func() error {
		_, err := s.Append(t.Context(), drafts, time.Now())
		return err
	}, "session", "user_to_session", "msg", "app_user", "user_to_device")
	require.Positive(t, rows["session"], "nothing was counted")
	return rows
}

// rowsRead does something on the pool's one connection and returns how many rows of each table were read meanwhile.
func rowsRead(t *testing.T, pool *pgxpool.Pool, do func() error, tables ...string) map[string]int64 {
	t.Helper()
	read := func() map[string]int64 {
		exec(t, pool, `SELECT pg_stat_force_next_flush()`)
		rows, err := pool.Query(t.Context(), `SELECT relname::text AS name, seq_tup_read + coalesce(idx_tup_fetch, 0) AS n
			FROM pg_stat_user_tables WHERE relname = ANY ($1)`, tables)
		require.NoError(t, err)
		type line struct {
			Name string
			N    int64
		}
		lines, err := pgx.CollectRows(rows, pgx.RowToStructByName[line])
		require.NoError(t, err)
		require.Len(t, lines, len(tables))
		counts := make(map[string]int64, len(lines))
		for _, l := range lines {
			counts[l.Name] = l.N
		}
		return counts
	}
	before := read()
	require.NoError(t, do())
	after := read()
	for name := range after {
		after[name] -= before[name]
	}
	return after
}
