package storage_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/storage"
)

// Writers that wait at random before they commit, beside a transaction that stays open: every row is found exactly once,
// which reading by id, or up to the oldest transaction, would not do.
func TestFeedMissesNothingAndRepeatsNothing(t *testing.T) {
	pool := testenv.Postgres(t)
	f := storage.Feed{DB: storage.New(pool)}
	start, err := f.Poll(t.Context(), "")
	require.NoError(t, err)
	require.NotEmpty(t, start.Epoch)

	idle, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = idle.Rollback(context.Background()) }()
	_, err = idle.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)

	const writers, rows = 24, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(w))) //nolint:gosec // a test
			for n := range rows {
				tx, err := pool.Begin(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				_, err = tx.Exec(context.Background(), `INSERT INTO commit_log (session_ids, heads) VALUES (ARRAY[$1::uuid], ARRAY[$2::bigint])`,
					uuid.UUID{15: byte(w)}, n+1)
				if err != nil {
					t.Error(err)
				}
				_, _ = tx.Exec(context.Background(), `SELECT pg_sleep($1)`, rnd.Float64()*0.02)
				if rnd.IntN(10) == 0 {
					_ = tx.Rollback(context.Background())
					continue
				}
				if err := tx.Commit(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen := map[int64]int{}
	since := start.Snapshot
	for last := false; ; {
		b, err := f.Poll(t.Context(), since)
		require.NoError(t, err)
		since = b.Snapshot
		for _, c := range b.Commits {
			seen[c.ID]++
		}
		if last {
			break
		}
		select {
		case <-done:
			last = true
		case <-time.After(5 * time.Millisecond):
		}
	}
	var committed int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM commit_log`).Scan(&committed))
	require.Len(t, seen, committed)
	for id, n := range seen {
		require.Equal(t, 1, n, "row %d", id)
	}
	require.Greater(t, committed, writers*rows/2)

	// Trimming up to a snapshot removes what was committed before the oldest transaction open at it, and no more.
	removed, err := f.Trim(t.Context(), since)
	require.NoError(t, err)
	require.Zero(t, removed, "the idle transaction is older than all rows")
	require.NoError(t, idle.Rollback(t.Context()))
	// Other databases of the same server may have older transactions still; they end.
	total := int64(0)
	require.Eventually(t, func() bool {
		b, err := f.Poll(t.Context(), since)
		require.NoError(t, err)
		removed, err = f.Trim(t.Context(), b.Snapshot)
		require.NoError(t, err)
		total += removed
		return total == int64(committed)
	}, 10*time.Minute, 20*time.Millisecond)
}

func TestRelationChangesAreNoted(t *testing.T) {
	pool := testenv.Postgres(t)
	f := storage.Feed{DB: storage.New(pool)}
	start, err := f.Poll(t.Context(), "")
	require.NoError(t, err)
	addUsers(t, pool, "alice", "bob")
	id := addGroup(t, pool, "alice")
	exec(t, pool, `UPDATE user_to_session SET read_seq = 1 WHERE user_id = 'alice'`) // not noted: it changes with every send
	exec(t, pool, `UPDATE user_to_session SET left_seq = 1 WHERE user_id = 'alice'`)
	exec(t, pool, `UPDATE user_to_device SET revoked_at = now() WHERE user_id = 'bob'`)
	exec(t, pool, `UPDATE app_user SET deactivated_at = now() WHERE user_id = 'bob'`)
	exec(t, pool, `INSERT INTO user_to_user VALUES ('alice', 'bob', 3, now())`)
	exec(t, pool, `DELETE FROM user_to_user`)
	b, err := f.Poll(t.Context(), start.Snapshot)
	require.NoError(t, err)
	type change struct {
		kind        int
		user, other string
	}
	var got []change
	for _, r := range b.Relations {
		got = append(got, change{int(r.Kind), r.UserID, r.OtherID})
	}
	require.Equal(t, []change{{1, "alice", ""}, {3, "alice", "d"}, {1, "bob", ""}, {3, "bob", "d"}, {4, "alice", id.String()},
		{4, "alice", id.String()}, {3, "bob", "d"}, {1, "bob", ""}, {2, "alice", "bob"}, {2, "alice", "bob"}}, got)
}
