package reading

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

type world struct {
	asked [][]Position
	told  map[string][]int64 // by user and reader
	fails bool
}

func (w *world) ReadAudience(_ context.Context, positions []Position, maxMembers int) ([][]string, error) {
	if w.fails {
		return nil, errors.New("away")
	}
	if maxMembers != MaxMembers {
		return nil, errors.New("another bound")
	}
	w.asked = append(w.asked, slices.Clone(positions))
	out := make([][]string, len(positions))
	for i := range positions {
		out[i] = []string{"bob", "carol"}
	}
	return out, nil
}

func (w *world) NotifyUser(userID, exceptDevice string, ev *parleyv1.Event) {
	p := ev.GetReadPosition()
	w.told[userID+exceptDevice+"<"+p.GetUserId()] = append(w.told[userID+exceptDevice+"<"+p.GetUserId()], p.GetReadSeq())
}

func newWorld() (*world, *Teller) {
	w := &world{told: map[string][]int64{}}
	return w, NewTeller(w, w, clockwork.NewFakeClock(), slog.New(slog.DiscardHandler))
}

// However often a position moves, it is told once a round, at its highest.
func TestPositionsAreGathered(t *testing.T) {
	w, teller := newWorld()
	id := uuid.New()
	for _, seq := range []int64{1, 5, 3} {
		teller.Note(Position{"alice", id, seq})
	}
	teller.Round(t.Context())
	teller.Round(t.Context())
	require.Equal(t, [][]Position{{{"alice", id, 5}}}, w.asked)
	require.Equal(t, map[string][]int64{"bob<alice": {5}, "carol<alice": {5}}, w.told)
}

// What waits is bounded; one that waits already still moves. One query names a bounded number.
func TestWaitingIsBounded(t *testing.T) {
	w, teller := newWorld()
	id := uuid.New()
	for i := range MaxWaiting + 10 {
		teller.Note(Position{"u" + strconv.Itoa(i), id, 1})
	}
	teller.Note(Position{"u0", id, 7})
	teller.Round(t.Context())
	require.Len(t, w.asked, MaxWaiting/atOnce)
	require.Len(t, w.told, 2*MaxWaiting)
	require.Equal(t, []int64{7}, w.told["bob<u0"])
}

// What cannot be asked is not told, and what comes later is.
func TestFailureIsPassedOver(t *testing.T) {
	w, teller := newWorld()
	id := uuid.New()
	w.fails = true
	teller.Note(Position{"alice", id, 1})
	teller.Round(t.Context())
	require.Empty(t, w.told)
	w.fails = false
	teller.Note(Position{"alice", id, 2})
	teller.Round(t.Context())
	require.Equal(t, []int64{2}, w.told["bob<alice"])
}
