package state_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

func testPool(t testing.TB) *pgxpool.Pool {
	ctx := context.Background()
	admin, err := pgxpool.New(ctx, "postgres://postgres@127.0.0.1:55439/postgres")
	require.NoError(t, err)
	defer admin.Close()
	name := fmt.Sprintf("t%d", time.Now().UnixNano())
	_, err = admin.Exec(ctx, "CREATE DATABASE "+name)
	require.NoError(t, err)
	pool, err := pgxpool.New(ctx, "postgres://postgres@127.0.0.1:55439/"+name+"?pool_max_conns=16")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	src, err := os.ReadFile("../../db/migrations/00001_schema.sql")
	require.NoError(t, err)
	up := string(src)
	up = up[:strings.Index(up, "-- +goose Down")]
	_, err = pool.Exec(ctx, up)
	require.NoError(t, err)
	return pool
}
