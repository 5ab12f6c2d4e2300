package storage_test

import (
	"fmt"
	"strings"
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

// Rows are read from their bytes as they were written, in each mode of execution that the server can use: bodies of all sizes, none for what was recalled, senders that change, times before 1970 and 2000.
func TestListRangesReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	sizes := []int{0, 1, 600, 40_000, 100, 100, 70_000, 3}
	want := make([][]message.Entry, len(ids))
	for i, id := range ids[:2] {
		_, err := pool.Exec(t.Context(), `INSERT INTO session (session_id, kind, owner_id, created_at) VALUES ($1, 2, 'alice', now())`, id)
		require.NoError(t, err)
		for n, size := range sizes {
			e := message.Entry{SessionID: id, Seq: int64(n) + 1, MessageID: uuid.New(), SenderID: fmt.Sprint("user", n/2%2), Type: message.TypeText,
				Body: []byte(strings.Repeat("x", size)), CreatedAt: time.UnixMicro(int64(n-1) * 500_000_000_000_123).UTC()}
			if n%3 > 0 {
				e.SenderDevice = fmt.Sprint("ö", n%3)
			}
			var recall *int64
			if n == 4 {
				e, recall = e.Erased(), new(int64(6))
			}
			_, err := pool.Exec(t.Context(), `INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no,
				is_delete, recall_seq, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $2, $8, $9, $10)`, id, e.Seq, e.MessageID, e.SenderID,
				e.SenderDevice, int16(e.Type), e.Body, e.IsDeleted, recall, e.CreatedAt)
			require.NoError(t, err)
			want[i] = append(want[i], e)
		}
	}
	ranges := []message.Range{{SessionID: ids[1], From: 2, To: 8}, {SessionID: ids[2], From: 0, To: 5}, {SessionID: ids[0], From: 0, To: 8}}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec} {
		t.Run(mode.String(), func(t *testing.T) {
			cfg, err := pgxpool.ParseConfig(url)
			require.NoError(t, err)
			cfg.ConnConfig.DefaultQueryExecMode = mode
			p, err := pgxpool.NewWithConfig(t.Context(), cfg)
			require.NoError(t, err)
			defer p.Close()
			got, err := storage.NewMessages(storage.New(p)).ListRanges(t.Context(), ranges)
			require.NoError(t, err)
			require.Equal(t, [][]message.Entry{want[1][2:], nil, want[0]}, got)
		})
	}
}
