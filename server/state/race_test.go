package state_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/state"
)

const devices = 8

// raceCalls is how many calls the devices of a race make together.
func raceCalls() int {
	if testing.Short() {
		return 1_000
	}
	return 10_000
}

// Eight devices of one user mark as read what is stale, in the future, of a session that is not theirs and where they
// cannot see, while others write: what is not valid is refused, no device sees the watermark move back, and in the end
// it is where the furthest valid mark was.
func TestWatermarkIsTheFurthestOfRacingMarks(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id, foreign := w.group(t, "ann"), w.group(t, "ann")
	w.texts(t, id, "ann", 20)
	w.texts(t, foreign, "ann", 20)
	joined := w.join(t, id, "bob", false)
	w.texts(t, id, "ann", 50)
	const future = 1_000_000

	stop := make(chan struct{})
	var writer, marking sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, err := tryEntry(w, id, "ann")
				if err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	furthest := make([]int64, devices)
	for device := range devices {
		marking.Go(func() {
			random := rand.New(rand.NewPCG(11, uint64(device)))
			var shown int64
			for range raceCalls() / devices {
				head := w.number(t, `SELECT last_seq FROM session WHERE session_id = $1`, id)
				session, seq, want := id, joined+random.Int64N(head-joined+1), refusal.Reason("")
				switch random.IntN(10) {
				case 0:
					seq, want = head+future, refusal.CursorBeyondHead
				case 1:
					seq, want = 1+random.Int64N(joined-1), refusal.CursorInvisible
				case 2:
					session, want = foreign, refusal.SessionUnavailable
				}
				v, err := w.states.MarkReadTo(w.ctx, on("bob"), session, seq)
				if got, _ := refusal.Of(err); got != want || (err != nil && want == "") {
					t.Errorf("mark up to %d: %v, want %q", seq, err, want)
					return
				}
				if want != "" {
					continue
				}
				if v.ReadSeq < seq || v.ReadSeq < shown {
					t.Errorf("watermark %d after a mark of %d, %d was seen before", v.ReadSeq, seq, shown)
					return
				}
				shown, furthest[device] = v.ReadSeq, max(furthest[device], seq)
			}
		})
	}
	marking.Wait()
	close(stop)
	writer.Wait()
	v := w.view(t, "bob", id)
	require.Equal(t, slices.Max(furthest), v.ReadSeq)
	require.Equal(t, w.number(t, `SELECT last_seq FROM session WHERE session_id = $1`, id)-v.ReadSeq, v.Unread)
}

func tryEntry(w *world, id uuid.UUID, sender string) (seq int64, err error) {
	err = pgx.BeginFunc(w.ctx, w.pool, func(tx pgx.Tx) error {
		seq, err = appendEntry(w.ctx, tx, id, sender, message.TypeText)
		return err
	})
	return seq, err
}

// All kinds of changes race with each other and with the user's own sends, which take the locks in their order: nothing
// deadlocks, no cursor moves back, and unread is what counting entry by entry gives.
func TestChangesRaceWithOwnSends(t *testing.T) {
	w := newWorld(t.Context(), testenv.Postgres(t))
	id := w.group(t, "ann", "bob")
	w.texts(t, id, "ann", 50)

	var wg sync.WaitGroup
	for device := range devices {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(12, uint64(device)))
			var shown state.View
			for range raceCalls() / 5 / devices {
				head := w.number(t, `SELECT last_seq FROM session WHERE session_id = $1`, id)
				near := max(1, head-random.Int64N(40))
				var v state.View
				var err error
				switch random.IntN(8) {
				case 0:
					_, err = tryEntry(w, id, "bob")
				case 1, 2:
					_, err = tryEntry(w, id, "ann")
				case 3:
					v, err = w.states.MarkReadTo(w.ctx, on("bob"), id, max(1, near-30))
				case 4:
					v, err = w.states.DeleteTo(w.ctx, on("bob"), id, max(1, near-60))
				case 5:
					v, err = w.states.Delete(w.ctx, on("bob"), id, []int64{near, max(1, near-3)})
				default:
					v, err = w.states.MarkRead(w.ctx, on("bob"), id, []int64{near, max(1, near-1)})
				}
				if err != nil {
					t.Error(err)
					return
				}
				if v.SessionID == id {
					if v.ReadSeq < shown.ReadSeq || v.DeletedToSeq < shown.DeletedToSeq {
						t.Errorf("cursors went back from %+v to %+v", shown, v)
						return
					}
					shown = v
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, w.number(t, `SELECT count(*) FROM msg g JOIN user_to_session m USING (session_id)
		WHERE m.user_id = 'bob' AND g.session_id = $1 AND g.seq_id > m.read_seq AND g.type <= 3 AND g.user_id <> 'bob'
			AND NOT EXISTS (SELECT FROM msg_state s WHERE s.user_id = 'bob' AND s.session_id = $1 AND s.seq_id = g.seq_id)`,
		id), w.view(t, "bob", id).Unread)
}
