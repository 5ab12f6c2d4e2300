package storage_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

var byAlice = session.Actor{UserID: "alice", DeviceID: "d"}

// appendRecall appends the shortest log event.
func appendRecall(ctx context.Context, l session.Log, seq int64) (message.Entry, error) {
	return l.Append(ctx, byAlice, &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: seq}}},
		time.Unix(3, 1_234_567))
}

func TestWithLogReturnsWhatItCommitted(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice")
	id := addGroup(t, pool, "alice")
	db := storage.New(pool)
	s := storage.Sessions{DB: db}

	var within []message.Entry
	entries, err := s.WithLog(t.Context(), id, func(ctx context.Context, l session.Log) error {
		within = nil
		for range 3 {
			e, err := appendRecall(ctx, l, 1)
			if err != nil {
				return err
			}
			within = append(within, e)
		}
		return nil
	})
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.Equal(t, within, entries)
	stored, err := storage.NewMessages(db).ListRanges(t.Context(), []message.Range{{SessionID: id, To: 3}})
	require.NoError(t, err)
	require.Equal(t, entries, stored[0], "what goes to the hub differs from what is read back")

	var sessions []uuid.UUID
	var heads []int64
	var users []string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT session_ids, heads, state_users FROM commit_log`).
		Scan(&sessions, &heads, &users))
	require.Equal(t, []uuid.UUID{id}, sessions)
	require.Equal(t, []int64{3}, heads)
	require.Empty(t, users)
}

func TestWithLogWithoutEntriesNotesNothing(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice")
	id := addGroup(t, pool, "alice")
	s := storage.Sessions{DB: storage.New(pool)}
	refused := refusal.New(refusal.Muted, "no")
	for _, end := range []error{nil, refused} {
		entries, err := s.WithLog(t.Context(), id, func(ctx context.Context, l session.Log) error {
			if end != nil {
				_, err := appendRecall(ctx, l, 1)
				require.NoError(t, err)
			}
			return end
		})
		require.Empty(t, entries)
		require.Equal(t, end, err)
	}
	var rows, msgs int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM commit_log), (SELECT count(*) FROM msg)`).
		Scan(&rows, &msgs))
	require.Zero(t, rows)
	require.Zero(t, msgs)
}

// After a deadlock the change runs again, and only its last run counts.
func TestWithLogRunsAgain(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice")
	id := addGroup(t, pool, "alice")
	s := storage.Sessions{DB: storage.New(pool)}
	deadlock := &pgconn.PgError{Code: "40P01"}
	runs := 0
	entries, err := s.WithLog(t.Context(), id, func(ctx context.Context, l session.Log) error {
		_, err := appendRecall(ctx, l, 1)
		if runs++; runs < 3 {
			return deadlock
		}
		return err
	})
	require.NoError(t, err)
	require.Equal(t, 3, runs)
	require.Len(t, entries, 1)
	require.EqualValues(t, 1, entries[0].Seq)

	runs = 0
	_, err = s.WithLog(t.Context(), id, func(context.Context, session.Log) error {
		runs++
		return deadlock
	})
	require.ErrorIs(t, err, deadlock)
	require.Equal(t, 5, runs)
}

// Between finding no session and making it, another transaction made it: the change runs again and finds it.
func TestWithLogMeetsASessionMadeMeanwhile(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice")
	s := storage.Sessions{DB: storage.New(pool)}
	id := uuid.New()
	group := session.Session{ID: id, Kind: session.KindGroup, OwnerID: "alice", SendRole: session.RoleMember}
	runs := 0
	entries, err := s.WithLog(t.Context(), id, func(ctx context.Context, l session.Log) error {
		if runs++; runs > 1 {
			found, ok := l.Session()
			require.True(t, ok)
			require.EqualValues(t, 1, found.LastSeq)
			return nil
		}
		_, ok := l.Session()
		require.False(t, ok)
		_, err := s.WithLog(ctx, id, func(ctx context.Context, l session.Log) error {
			_, err := appendRecallAfter(ctx, l, l.Create(ctx, group))
			return err
		})
		require.NoError(t, err)
		return l.Create(ctx, group)
	})
	require.NoError(t, err)
	require.Equal(t, 2, runs)
	require.Empty(t, entries)
}

func appendRecallAfter(ctx context.Context, l session.Log, err error) (message.Entry, error) {
	if err != nil {
		return message.Entry{}, err
	}
	return appendRecall(ctx, l, 1)
}

func TestWithLogEndsWithItsContext(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice")
	id := addGroup(t, pool, "alice")
	s := storage.Sessions{DB: storage.New(pool)}
	locked, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := s.WithLog(context.WithoutCancel(t.Context()), id, func(context.Context, session.Log) error {
			close(locked)
			<-release
			return nil
		})
		done <- err
	}()
	select {
	case <-locked:
	case err := <-done:
		require.NoError(t, err)
		require.Fail(t, "the change did not run")
	case <-time.After(time.Minute):
		require.Fail(t, "the lock was not had")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.WithLog(ctx, id, func(context.Context, session.Log) error { return errors.New("ran without the lock") })
	reason, _ := refusal.Of(err)
	require.Equal(t, refusal.Unavailable, reason, "%v", err)
	close(release)
	require.NoError(t, <-done)
}
