package storage_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/storage"
)

// seedStarts makes 20 users with a device d each, all of them in 1,000 sessions of 50 messages; the first is one
// message behind in each tenth and has an exception there.
func seedStarts(t testing.TB, exec func(sql string, args ...any)) {
	const id = "('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid"
	exec("INSERT INTO app_user (user_id, created_at) SELECT 'u' || u, now() FROM generate_series(0, 19) u")
	exec("INSERT INTO user_to_device (user_id, device_id, created_at, synced_at) SELECT user_id, 'd', now(), now() FROM app_user")
	exec(`INSERT INTO session (session_id, kind, owner_id, member_count, last_seq, countable_total, created_at)
		SELECT ` + id + `, 2, 'u0', 20, 50, 50, now() FROM generate_series(1, 1000) n`)
	exec(`INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq, read_seq)
		SELECT user_id, ` + id + `, 1, 1, 1, CASE WHEN n % 10 = 0 AND user_id = 'u0' THEN 49 ELSE 50 END FROM app_user, generate_series(1, 1000) n`)
	exec(`INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
		SELECT ` + id + `, q, gen_random_uuid(), 'u1', 'd', 1, '', 0, q, now() FROM generate_series(1, 1000) n, generate_series(1, 50) q`)
	exec("INSERT INTO device_cursor (user_id, device_id, session_id, acked_seq) SELECT user_id, 'd', session_id, read_seq FROM user_to_session")
	exec(`INSERT INTO msg_state (user_id, session_id, seq_id, msg_id, is_read, is_delete)
		SELECT 'u0', ` + id + `, 50, gen_random_uuid(), true, true FROM generate_series(10, 1000, 10) n`)
	exec("ANALYZE")
}

// The one query of a returning device goes by primary keys only, however many sessions its user has, and looks at
// nothing but the sessions' rows where nothing is new.
func TestStartListGoesByPrimaryKeys(t *testing.T) {
	pool, err := storage.OpenPool(context.Background(), testenv.PostgresURL(t), 2)
	require.NoError(t, err)
	defer pool.Close()
	ctx := context.Background()
	seedStarts(t, func(sql string, args ...any) {
		_, err := pool.Exec(ctx, sql, args...)
		require.NoError(t, err)
	})
	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(ctx, "PREPARE starts AS "+sqlc.StartList, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	explain := "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) EXECUTE starts ('{0,1}', '{u0,u1}', '{d,d}', '{f,f}', '{f,f}', '{t,t}', 257, 200)"
	rows, err := conn.Query(ctx, explain, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	plan := strings.Join(lines, "\n")
	t.Log(plan)
	require.NotContains(t, plan, "Seq Scan")
	used := regexp.MustCompile(`using (\w+) on`).FindAllStringSubmatch(plan, -1)
	require.NotEmpty(t, used)
	for _, u := range used {
		require.Regexp(t, `_pkey$`, u[1], plan)
	}
	fmt.Println()
}
