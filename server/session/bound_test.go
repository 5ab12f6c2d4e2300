package session_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// gathered lets joinings look at the users' numbers of sessions together, before any of them is committed.
type gathered struct {
	*postgres
	looked sync.WaitGroup
}

func (g *gathered) Full(ctx context.Context, userIDs []string, limit int) ([]string, error) {
	defer func() { g.looked.Done(); g.looked.Wait() }()
	return g.postgres.Full(ctx, userIDs, limit)
}

// Groups that are joined at the same moment do not pass the bound on a user's sessions together, be it so low that everybody
// who joins is locked or so high that only those near it are.
func TestJoiningAtOnceKeepsTheBound(t *testing.T) {
	const joining = 6
	for name, c := range map[string]struct{ most, already int }{
		"low":           {3, 0},
		"high and near": {session.MaxSessions, session.MaxSessions - 3},
		"of one":        {1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &gathered{postgres: newPostgres(t)}
			w := newWorld(g)
			w.LimitSessions(c.most)
			owners := []string{"busy"}
			for i := range joining {
				owners = append(owners, fmt.Sprintf("owner-%d", i))
			}
			w.addUsers(t, owners...)
			g.exec(t, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
				SELECT 'busy', gen_random_uuid(), 1, 1, 1 FROM generate_series(1, $1)`, c.already)
			g.looked.Add(joining)
			passed, refused := tally(t, atOnce(joining, func(i int) error {
				_, err := w.Create(t.Context(), as(owners[i+1]), nil, session.Group{}, []string{"busy"})
				return err
			}), refusal.TooManySessions)
			require.Equal(t, c.most-c.already, passed)
			require.Equal(t, joining-passed, refused)
			require.EqualValues(t, c.most, g.number(t, `SELECT count(*) FROM user_to_session WHERE user_id = 'busy'`))
		})
	}
}

// Who comes in after the look before the lock counts, though nobody seemed near the bound then.
func TestJoiningCountsAgainUnderTheLock(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	late := &lateCrowd{postgres: p, t: t}
	w := newWorld(late)
	w.addUsers(t, "alice", "busy")
	_, err := w.Create(t.Context(), as("alice"), nil, session.Group{}, []string{"busy"})
	requireRefused(t, refusal.TooManySessions, err)
	require.Zero(t, p.number(t, `SELECT count(*) FROM session`))
}

// lateCrowd fills up a user's sessions right after it was looked how many there are.
type lateCrowd struct {
	*postgres
	t *testing.T
}

func (l *lateCrowd) Full(ctx context.Context, userIDs []string, limit int) ([]string, error) {
	full, err := l.postgres.Full(ctx, userIDs, limit)
	l.crowd(l.t, "busy")
	return full, err
}

// Each time that a member is cut off and added again makes a part of the log that is seen apart. There are so many, and then a
// group that hides its past takes them in no more.
func TestPartsOfALogAreBounded(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	w := newWorld(p)
	id := w.group(t, session.Group{}, "alice", "bob")
	add := func() error {
		_, err := w.AddMembers(t.Context(), as("alice"), id, []string{"bob"})
		return err
	}
	remove := func() {
		_, err := w.RemoveMember(t.Context(), as("alice"), id, "bob")
		require.NoError(t, err)
	}
	const head = 10 * session.MaxParts
	p.exec(t, `UPDATE session SET last_seq = $1`, head)
	p.exec(t, `UPDATE user_to_session SET joined_seq = $1, visible_seq = $1,
		earlier = (SELECT range_agg(int8range(3 * i, 3 * i + 1)) FROM generate_series(1, $2) i) WHERE user_id = 'bob'`,
		head, session.MaxParts-2)
	remove()
	require.NoError(t, add(), "of MaxParts - 1")
	remove()
	requireRefused(t, refusal.UserUnavailable, add())
	m, _ := w.member(t, id, "bob")
	require.False(t, m.Active())
	require.Len(t, m.Visible, session.MaxParts)

	shown := true
	_, _, err := w.Update(t.Context(), as("alice"), id, session.GroupPatch{HistoryVisible: &shown})
	require.NoError(t, err)
	require.NoError(t, add())
	m, _ = w.member(t, id, "bob")
	require.Len(t, m.Visible, 1)
}
