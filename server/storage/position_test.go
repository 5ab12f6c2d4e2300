package storage_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/storage"
)

// Cursors of another life of the log are not written; those of this one move forward only.
func TestSaveCursorsOfThisLifeOnly(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice")
	id := addGroup(t, pool, "alice")
	positions := storage.Positions{DB: storage.New(pool)}
	var epoch string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT parley_epoch()").Scan(&epoch))
	save := func(epoch string, seq int64) (acked int64) {
		require.NoError(t, positions.SaveCursors(t.Context(), epoch, []string{"alice"}, []string{"d"}, []uuid.UUID{id}, []int64{seq}))
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT coalesce(max(acked_seq), 0) FROM device_cursor").Scan(&acked))
		return acked
	}
	require.Zero(t, save("another", 9))
	require.EqualValues(t, 5, save(epoch, 5))
	require.EqualValues(t, 5, save(epoch, 4))
	require.EqualValues(t, 5, save("another", 9))
}
