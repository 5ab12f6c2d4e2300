package statecache_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
)

// Readers fill the cache while marks commit and delete, with all that goes to Redis held up for random times, so that
// fills come after deletes that they began before. There is no feed to repair anything: the leases alone must do. Whoever
// has been answered a mark reads it on the other node. In the end nothing that is cached differs from PostgreSQL.
func TestNoFillIsStale(t *testing.T) {
	url, epoch := testenv.Redis(t)
	users, rounds := 100, 80
	if testing.Short() {
		users, rounds = 20, 25
	}
	w := newWorld(t, epoch, users, 100)
	slow := throughProxy(t, url, func([]byte) {
		time.Sleep(time.Duration(rand.IntN(12)) * time.Millisecond) //nolint:forbidigo // the network that this test is about
	})
	// The leases outlive any reading: it is not they that keep what is late from being stored.
	long := options{lease: 10 * time.Minute}
	one, two := w.node(t, slow, long), w.node(t, slow, long)

	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(worker)))
			for range rounds {
				user, ids := w.users[random.IntN(users)], make([]uuid.UUID, 20)
				for i, at := range random.Perm(len(w.sessions))[:len(ids)] {
					ids[i] = w.sessions[at]
				}
				var pair sync.WaitGroup
				for range 2 {
					pair.Go(func() { one.read(t, user, ids...) })
				}
				seqs := make([]int64, 10)
				for i := range seqs {
					seqs[i] = random.Int64N(head) + 1
					pair.Go(func() {
						if err := two.mark(t.Context(), user, ids[i], seqs[i]); err != nil {
							t.Error(err)
						}
					})
				}
				pair.Wait()
				got := one.read(t, user, ids...)
				for i, seq := range seqs {
					if got[ids[i]].ReadSeq < seq {
						t.Errorf("read up to %d after a mark of %d was answered", got[ids[i]].ReadSeq, seq)
					}
				}
			}
		})
	}
	all.Wait()
	fills := one.outcomes(t, "fills")
	t.Log(one.outcomes(t, "reads"), fills, two.outcomes(t, "deletes"))
	require.Positive(t, fills["refused"], "no fill was late: the test tests nothing")
	require.Zero(t, one.outcomes(t, "deletes")["failed"]+two.outcomes(t, "deletes")["failed"])
	differing, cached := one.differing(t)
	t.Logf("%d keys, %d cached, %d fills stored, %d refused, %d differ", users*100, cached, fills["stored"], fills["refused"], differing)
	require.Zero(t, differing)
	require.Greater(t, cached, users*100/4)
}
