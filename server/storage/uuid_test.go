package storage_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/storage"
)

// Ids go through PostgreSQL unchanged, alone and in arrays.
func TestUUIDsKeepTheirValue(t *testing.T) {
	pool, err := storage.OpenPool(t.Context(), testenv.PostgresURL(t), 2)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	a, b := uuid.New(), uuid.New()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe} {
		var text string
		var one uuid.UUID
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT $1::uuid::text, $1::uuid`, mode, a).Scan(&text, &one))
		require.Equal(t, a.String(), text)
		require.Equal(t, a, one)

		for _, ids := range [][]uuid.UUID{{a, b}, {b}, {}} {
			var count int
			var first *string
			var back []uuid.UUID
			require.NoError(t, pool.QueryRow(t.Context(), `SELECT cardinality($1::uuid[]), ($1::uuid[])[1]::text, $1::uuid[]`,
				mode, ids).Scan(&count, &first, &back))
			require.Equal(t, len(ids), count)
			require.Equal(t, ids, back)
			if len(ids) > 0 {
				require.Equal(t, ids[0].String(), *first)
			}
		}
		var isNull bool
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT $1::uuid[] IS NULL`, mode, []uuid.UUID(nil)).Scan(&isNull))
		require.True(t, isNull)

		var none *uuid.UUID
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT $1::uuid`, mode, none).Scan(&none))
		require.Nil(t, none)
		some := &b
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT $1::uuid`, mode, some).Scan(&none))
		require.Equal(t, b, *none)
	}
}
