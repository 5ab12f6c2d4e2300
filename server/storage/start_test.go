package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/google/uuid"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/stream"
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
	require.NotContains(t, plan, "Seq Scan")
	used := regexp.MustCompile(`using (\w+) on`).FindAllStringSubmatch(plan, -1)
	require.NotEmpty(t, used)
	for _, u := range used {
		require.Regexp(t, `_pkey$`, u[1], plan)
	}
	require.Regexp(t, `msg_state_pkey on msg_state e .*loops=100\)`, plan, "only where something is new")
}

// What the one query says is what the single queries say: of sessions joined, left, acknowledged and rejoined, with
// cursors and without, with few exceptions and with more than it tells.
func TestStartsSayWhatTheSingleQueriesSay(t *testing.T) {
	pool := testenv.Postgres(t)
	db := storage.New(pool)
	positions, states := storage.Positions{DB: db}, storage.States{DB: db}
	ctx := context.Background()
	exec := func(sql string, args ...any) {
		_, err := pool.Exec(ctx, sql, args...)
		require.NoError(t, err)
	}
	exec("INSERT INTO app_user (user_id, created_at) SELECT unnest('{a,b,none}'::text[]), now()")
	exec(`INSERT INTO user_to_device (user_id, device_id, created_at, synced_at, revoked_at) VALUES
		('a', 'old', now(), now(), NULL), ('a', 'new', now(), NULL, NULL), ('b', 'old', now(), now(), NULL),
		('none', 'old', now(), now(), NULL), ('a', 'revoked', now(), now(), now())`)
	const head = 400
	for range 40 {
		id := uuid.New()
		exec("INSERT INTO session (session_id, kind, owner_id, last_seq, countable_total, created_at) VALUES ($1, 2, 'x', $2, $2, now())", id, head)
		exec(`INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
			SELECT $1, q, gen_random_uuid(), 'x', 'd', 1, '', 0, q, now() FROM generate_series(1, $2::int) q`, id, head)
		for _, user := range []string{"a", "b"} {
			joined := 1 + rand.Int64N(50)
			var left *int64
			earlier := "{}"
			if rand.IntN(3) == 0 {
				n := joined + rand.Int64N(300)
				left = &n
			}
			if joined > 20 && rand.IntN(2) == 0 {
				earlier = fmt.Sprintf("{[%d,%d)}", 2+rand.IntN(3), 10)
			}
			read := rand.Int64N(head)
			exec(`INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq, left_seq, earlier, read_seq, deleted_to_seq, is_muted, is_pinned, is_archived)
				VALUES ($1, $2, 1, $3, $3, $4, $5::text::int8multirange, $6, $7, $8, $9, $8)`, user, id, joined, left, earlier, read, rand.Int64N(read+1), rand.IntN(2) == 0, rand.IntN(2) == 0)
			exec(`INSERT INTO msg_state (user_id, session_id, seq_id, msg_id, is_read, is_delete)
				SELECT $1, $2, q, gen_random_uuid(), true, q % 3 = 0 FROM generate_series(1, $3::int) q WHERE random() < $4`, user, id, head, rand.Float64())
			if rand.IntN(4) > 0 {
				exec("INSERT INTO device_cursor (user_id, device_id, session_id, acked_seq) VALUES ($1, 'old', $2, $3)", user, id, rand.Int64N(head))
			}
		}
	}
	asks := []stream.Ask{{UserID: "a", DeviceID: "old"}, {UserID: "a", DeviceID: "old", Fresh: true}, {UserID: "a", DeviceID: "new"},
		{UserID: "b", DeviceID: "old", Named: true}, {UserID: "none", DeviceID: "old"}, {UserID: "a", DeviceID: "revoked"}, {UserID: "x", DeviceID: "y"}}
	for i := range asks {
		asks[i].Counted, asks[i].RoamBacklog = true, 200
	}
	starts, err := positions.Starts(ctx, asks)
	require.NoError(t, err)
	require.Len(t, starts, len(asks))
	for i, st := range starts {
		require.Equal(t, i < 5, st.Known, i)
		require.Equal(t, i != 2 && i != 6, st.Synced, i)
	}
	require.Empty(t, starts[4].Positions)
	require.Empty(t, starts[6].Positions)
	cut := 0
	for i, ask := range asks[:4] {
		cursorsOf := ask.DeviceID
		if ask.Fresh || ask.DeviceID == "new" {
			cursorsOf = "nobody's"
		}
		var ids []uuid.UUID
		for _, p := range starts[i].Positions {
			ids = append(ids, p.SessionID)
		}
		all, err := pool.Query(ctx, "SELECT session_id FROM user_to_session WHERE user_id = $1", ask.UserID)
		require.NoError(t, err)
		every, err := pgx.CollectRows(all, pgx.RowTo[uuid.UUID])
		require.NoError(t, err)
		want, err := positions.Positions(ctx, ask.UserID, cursorsOf, every)
		require.NoError(t, err)
		views, err := states.Views(ctx, ask.UserID, ids)
		require.NoError(t, err)
		n := 0
		for _, p := range want {
			if !p.Active && !ask.Named && p.HasCursor && p.Acked >= p.Visible.Last(session.Open) {
				continue // acknowledged to its end
			}
			got := starts[i].Positions[n]
			views[n].MarkedUnread = false
			require.Equal(t, views[n], got.State.View)
			cut += checkExceptions(t, states, ask.UserID, got)
			got.State = stream.Standing{}
			require.Equal(t, p, got)
			n++
		}
		require.Len(t, starts[i].Positions, n)
	}
	require.Positive(t, cut, "no session had more exceptions than are told")
}

// checkExceptions holds what is told of exceptions against the table, and returns 1 where there are too many to tell.
func checkExceptions(t *testing.T, states storage.States, user string, p stream.Position) int {
	t.Helper()
	at := p.JoinedSeq - 1
	if p.HasCursor {
		at = p.Acked
	}
	require.LessOrEqual(t, p.State.From, max(at, p.Head-200), "what the device gets is covered")
	from := max(p.State.From, p.DeletedToSeq)
	kept, err := states.Kept(context.Background(), user, []message.Range{{SessionID: p.SessionID, From: from, To: p.Head}})
	require.NoError(t, err)
	var have []state.Exception
	for _, k := range kept {
		for _, e := range k.Exceptions {
			if e.Seq > from && (e.Deleted || e.Seq > k.ReadSeq) { // others say no more than the cursors
				have = append(have, e)
			}
		}
	}
	if !p.State.Whole {
		require.Len(t, p.State.Exceptions, stream.MaxExceptions+1) // some of which the cursors cover
		return 1
	}
	told := slices.DeleteFunc(slices.Clone(p.State.Exceptions), func(seq int64) bool { return seq > 0 && seq <= p.State.View.ReadSeq })
	require.Len(t, told, len(have))
	for i, e := range have {
		want := state.Exception{SessionID: p.SessionID, Seq: told[i], Read: true}
		if want.Seq < 0 {
			want.Seq, want.Deleted = -want.Seq, true
		}
		require.Equal(t, want, e)
	}
	return 0
}
