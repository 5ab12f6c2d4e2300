package storage_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/rate"
	"github.com/parley-im/parley/server/storage"
)

// What is owed adds up over nodes, falls by itself, and leaves nothing behind once it is paid.
func TestRateBoard(t *testing.T) {
	url, _ := testenv.Redis(t)
	client, err := storage.OpenRedis(url)
	require.NoError(t, err)
	client = testenv.Patient(t, client)
	life := uuid.NewString()
	board := storage.NewRateBoard(client, func() string { return life })
	charge := func(k rate.Key, amount time.Duration) time.Duration {
		owed, err := board.Charge(t.Context(), []rate.Charge{{Key: k, Amount: amount, Window: 100 * time.Hour}})
		require.NoError(t, err)
		return owed[0]
	}
	id := uuid.New()
	k := rate.Key{Rule: rate.MessagesSession, A: string(id[:])}
	// What passes meanwhile is paid: minutes of it, on a busy machine.
	require.Equal(t, time.Hour, charge(k, time.Hour))
	require.InDelta(t, 3*time.Hour, charge(k, 2*time.Hour), float64(20*time.Minute))
	require.InDelta(t, 2*time.Hour, charge(k, -time.Hour), float64(20*time.Minute))
	require.InDelta(t, 2*time.Hour, charge(k, 0), float64(20*time.Minute))
	require.InDelta(t, 200*time.Hour, charge(k, 10_000*time.Hour), float64(time.Second), "no more than two buckets")
	require.Zero(t, charge(k, -100_000*time.Hour))
	require.Zero(t, charge(k, 0))
	names, err := client.Keys(t.Context(), "rate1:*"+life+"*").Result()
	require.NoError(t, err)
	require.Empty(t, names)

	var many []rate.Charge
	for i := range 100 {
		many = append(many, rate.Charge{Key: rate.Key{Rule: rate.CallsDevice, A: "u", B: strconv.Itoa(i)},
			Amount: time.Duration(i+1) * 1000 * time.Second, Window: 240 * time.Hour})
	}
	owed, err := board.Charge(t.Context(), many)
	require.NoError(t, err)
	for i, o := range owed {
		require.Equal(t, many[i].Amount, o)
	}
	names, err = client.Keys(t.Context(), "rate1:*"+life+"*").Result()
	require.NoError(t, err)
	require.Len(t, names, 100)
	for _, name := range names {
		left, err := client.TTL(t.Context(), name).Result()
		require.NoError(t, err)
		require.Positive(t, left)
		require.NoError(t, client.Del(t.Context(), name).Err())
	}
	other := storage.NewRateBoard(client, func() string { return life + "x" })
	owed, err = other.Charge(t.Context(), many[:1])
	require.NoError(t, err)
	require.Equal(t, many[0].Amount, owed[0], "another database's users")
}
