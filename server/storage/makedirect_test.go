package storage_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

// limited is the log of a node that knows of no session yet and lets users be in this many.
func limited(pool *pgxpool.Pool, most int) *storage.Messages {
	s := storage.NewMessages(storage.New(pool))
	s.LimitSessions(most)
	return s
}

// directTo is a message to a user.
func directTo(from, to string) message.Draft {
	id, _, _ := session.DirectID(from, to)
	d := draftOf(id, from, "hi")
	d.Peer = to
	return d
}

// reasons appends drafts and returns what each is refused with, "" where it is not.
func reasons(t *testing.T, s *storage.Messages, drafts ...message.Draft) (all []refusal.Reason) {
	t.Helper()
	out, err := s.Append(t.Context(), drafts, time.Now())
	require.NoError(t, err)
	for i := range out {
		reason, _ := refusal.Of(out[i].Err)
		all = append(all, reason)
	}
	return all
}

// made returns how many sessions there are, and memberships of a user; each session has both of its.
func made(t *testing.T, pool *pgxpool.Pool, user string) (sessions, of int) {
	t.Helper()
	var members, entries int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM session WHERE kind = 1),
		(SELECT count(*) FROM user_to_session m JOIN session s USING (session_id) WHERE s.kind = 1),
		(SELECT count(*) FROM session WHERE kind = 1 AND last_seq > 0),
		(SELECT count(*) FROM user_to_session WHERE user_id = $1 AND left_seq IS NULL)`, user).Scan(&sessions, &members, &entries, &of))
	require.Equal(t, 2*sessions, members, "half a session was made")
	require.Equal(t, sessions, entries, "a session without a message was left")
	return sessions, of
}

// The bound on a user's sessions is a bound on direct ones too: who sends is told so, and of who is sent to it is told what is
// told of everybody who cannot be reached.
func TestDirectSessionsCount(t *testing.T) {
	const most = 3
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice", "bob", "carol", "dave", "erin", "frank", "grace")
	group := addGroup(t, pool, "alice", "grace")

	for n, to := range []string{"bob", "carol"} {
		require.Equal(t, []refusal.Reason{""}, reasons(t, limited(pool, most), directTo("alice", to)), "%d of %d", n+2, most)
	}
	require.Equal(t, []refusal.Reason{refusal.TooManySessions}, reasons(t, limited(pool, most), directTo("alice", "dave")))
	require.Equal(t, []refusal.Reason{refusal.RecipientUnavailable}, reasons(t, limited(pool, most), directTo("dave", "alice")))
	sessions, of := made(t, pool, "alice")
	require.Equal(t, []int{2, most}, []int{sessions, of})
	_, of = made(t, pool, "dave")
	require.Zero(t, of)

	// What there is goes on, on nodes that do not know yet that it is there, and from both sides.
	require.Equal(t, []refusal.Reason{"", "", ""},
		reasons(t, limited(pool, most), directTo("alice", "bob"), directTo("carol", "alice"), draftOf(group, "alice", "x")))
	// Others are not held back in the same batch, and who is full on both sides is told of themself.
	require.Equal(t, []refusal.Reason{refusal.TooManySessions, "", refusal.RecipientUnavailable, ""},
		reasons(t, limited(pool, most), directTo("alice", "dave"), directTo("dave", "erin"), directTo("erin", "alice"), directTo("erin", "dave")))
	require.Equal(t, []refusal.Reason{refusal.TooManySessions, refusal.RecipientUnavailable},
		reasons(t, limited(pool, most), directTo("alice", "frank"), directTo("frank", "alice")), "one session, asked for from both sides")

	// Whom one may not talk to is not asked how many sessions anybody is in.
	exec(t, pool, `INSERT INTO user_to_user VALUES ('alice', 'erin', 3, now()), ('frank', 'alice', 3, now())`)
	require.Equal(t, []refusal.Reason{refusal.RecipientBlockedByYou, refusal.RecipientUnavailable, refusal.RecipientUnavailable},
		reasons(t, limited(pool, most), directTo("alice", "erin"), directTo("alice", "frank"), directTo("alice", "nobody at all")))

	// A place becomes free by leaving a group.
	exec(t, pool, `UPDATE user_to_session SET left_seq = 1 WHERE user_id = 'alice' AND session_id = $1`, group)
	require.Equal(t, []refusal.Reason{"", refusal.TooManySessions},
		reasons(t, limited(pool, most), directTo("alice", "dave"), directTo("alice", "grace")))
}

// Of one batch those get the last places who come first, but nobody loses one to a message that is refused anyway.
func TestLastPlacesGoInOrder(t *testing.T) {
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice", "bob", "carol", "dave", "erin")
	answer := directTo("alice", "bob")
	answer.ReplyTo = 7
	require.Equal(t, []refusal.Reason{refusal.TooManySessions, "", "", refusal.TooManySessions, ""}, reasons(t, limited(pool, 2),
		answer, directTo("alice", "carol"), directTo("alice", "dave"), directTo("alice", "erin"), directTo("alice", "carol")))
	require.Equal(t, []refusal.Reason{"", refusal.RecipientUnavailable}, reasons(t, limited(pool, 2),
		directTo("bob", "carol"), directTo("dave", "carol")), "the last place of a recipient")
	answer = directTo("erin", "bob")
	answer.ReplyTo = 7
	require.Equal(t, []refusal.Reason{refusal.MessageUnavailable}, reasons(t, limited(pool, 2), answer), "there is room")
	_, of := made(t, pool, "erin")
	require.Zero(t, of)
}

// Many nodes make sessions of one user at the same time, who sends or is sent to, with others in the same batches: the bound
// is met and not passed, and nobody is refused while there is room.
func TestLastPlacesAreGivenOnce(t *testing.T) {
	const most, others = 7, 24
	pool := testenv.Postgres(t)
	users := []string{"alice"}
	for i := range others {
		users = append(users, fmt.Sprintf("user%02d", i))
	}
	addUsers(t, pool, users...)
	var sent atomic.Int64
	var wg sync.WaitGroup
	for i := range others {
		wg.Go(func() {
			to := directTo("alice", users[1+i])
			refused := refusal.TooManySessions
			if i%2 == 1 {
				to, refused = directTo(users[1+i], "alice"), refusal.RecipientUnavailable
			}
			// In the order of their ids the other pair's users come before and after alice and her peer.
			drafts := []message.Draft{directTo(users[1+i], users[1+(i+1)%others]), to}
			out, err := limited(pool, most).Append(context.Background(), drafts, time.Now())
			if err == nil && out[0].Err != nil {
				err = out[0].Err
			}
			if err == nil && out[1].Err != nil {
				if got, _ := refusal.Of(out[1].Err); got != refused {
					err = out[1].Err
				}
			} else if err == nil {
				sent.Add(1)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, most, sent.Load())
	sessions, of := made(t, pool, "alice")
	require.Equal(t, []int{most + others, most}, []int{sessions, of})
}

// queries counts what is sent to PostgreSQL.
type queries struct{ n atomic.Int64 }

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.n.Add(1)
	return ctx
}
func (*queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (*queries) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (q *queries) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) { q.n.Add(1) }
func (*queries) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)       {}

// What bounds the making of sessions costs sends into sessions that are there no statement: one, and three where the node
// does not know of the session yet or makes it, however many of them a batch has.
func TestBoundOnSessionsCostsNoStatement(t *testing.T) {
	cfg, err := pgxpool.ParseConfig(testenv.PostgresURL(t))
	require.NoError(t, err)
	var q queries
	cfg.ConnConfig.Tracer = &q
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	addUsers(t, pool, "alice", "bob", "carol", "dave")
	s := limited(pool, 2)
	taken := func(s *storage.Messages, drafts ...message.Draft) int64 {
		before := q.n.Load()
		_, err := s.Append(t.Context(), drafts, time.Now())
		require.NoError(t, err)
		return q.n.Load() - before
	}
	require.EqualValues(t, 3, taken(s, directTo("alice", "bob"), directTo("alice", "carol"), directTo("alice", "dave")), "made, and refused")
	require.EqualValues(t, 1, taken(s, directTo("alice", "bob"), directTo("carol", "alice")), "known")
	require.EqualValues(t, 3, taken(limited(pool, 2), directTo("alice", "bob"), directTo("carol", "alice")), "there, on another node")
}

// Whatever PostgreSQL believed of the tables' sizes when it made its plans, making sessions reads rows in the number of the
// batch's items and of their users' sessions, and making none where they are there reads no memberships for it at all.
func TestMakingLooksUpByKeyWhateverTheStatisticsSay(t *testing.T) {
	for _, taken := range []string{"never", "of empty tables", "of a handful of rows", "of grown tables"} {
		t.Run("statistics "+taken, func(t *testing.T) {
			pool, err := storage.OpenPool(t.Context(), testenv.PostgresURL(t), 1) // one connection, whose plans are kept
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			analyse := func(when string) {
				if when == taken {
					exec(t, pool, `VACUUM (ANALYZE) session, user_to_session, msg, app_user, user_to_device, user_to_user`)
				}
			}
			analyse("of empty tables")
			exec(t, pool, `INSERT INTO app_user (user_id, created_at) SELECT 'user' || i, now() FROM generate_series(1, 1000) i`)
			exec(t, pool, `INSERT INTO user_to_device (user_id, device_id, created_at) SELECT user_id, 'd', now() FROM app_user`)
			next := 0
			batch := func() (drafts []message.Draft) {
				for range planItems {
					next += 2
					drafts = append(drafts, directTo(fmt.Sprint("user", next), fmt.Sprint("user", next-1)))
				}
				return drafts
			}
			touched(t, pool, limited(pool, 10), batch())
			analyse("of a handful of rows")
			for range 8 {
				touched(t, pool, limited(pool, 10), batch())
			}
			var ids []uuid.UUID
			for range 2000 {
				ids = append(ids, uuid.New())
			}
			exec(t, pool, `INSERT INTO session (session_id, kind, owner_id, member_count, created_at) SELECT unnest($1::uuid[]), 2, 'user1', 1, now()`, ids)
			exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
				SELECT u, s, 1, 1, 1 FROM unnest(ARRAY['user999', 'user1000']) u, unnest($1::uuid[]) s`, ids)
			analyse("of grown tables")
			drafts := batch()
			for table, rows := range touched(t, pool, limited(pool, 10), drafts) {
				require.LessOrEqual(t, rows, int64(12*planItems), "%s, made", table) // of users 11: looked at twice, locked, referred to, who sends
			}
			for i := range drafts {
				drafts[i].MessageID = uuid.New()
			}
			for table, rows := range touched(t, pool, limited(pool, 10), drafts) {
				require.LessOrEqual(t, rows, int64(5*planItems), "%s, there", table)
			}
			for table, rows := range touched(t, pool, limited(pool, 10), []message.Draft{directTo("user999", "user1000"), directTo("user1", "user2")}) {
				require.LessOrEqual(t, rows, int64(40), "%s, full", table) // up to the bound of each, and not all that there are
			}
		})
	}
}

// A deadlock between a batch and a change of a group, which lock users and sessions in different order, is nobody's fault: it
// is tried again.
func TestMakingBesideJoining(t *testing.T) {
	const most = 8
	pool := testenv.Postgres(t)
	users := []string{"alice"}
	for i := range 6 {
		users = append(users, fmt.Sprintf("user%02d", i))
	}
	addUsers(t, pool, users...)
	groups := make([]uuid.UUID, 6)
	for i := range groups {
		groups[i] = addGroup(t, pool, users[1+i])
		exec(t, pool, `UPDATE session SET last_seq = 1 WHERE session_id = $1`, groups[i])
	}
	for range most / 2 { // near the bound, from where on joining counts again
		addGroup(t, pool, "alice")
	}
	var wg sync.WaitGroup
	var came atomic.Int64
	for i, id := range groups {
		wg.Go(func() {
			out, err := limited(pool, most).Append(context.Background(),
				[]message.Draft{directTo("alice", users[1+i]), draftOf(id, users[1+i], "x")}, time.Now())
			if err == nil && out[0].Err == nil {
				came.Add(1)
			} else if got, _ := refusal.Of(errors.Join(err, errOf(out))); got != refusal.TooManySessions {
				t.Error(err, out)
			}
		})
		wg.Go(func() {
			_, err := storage.Sessions{DB: storage.New(pool)}.WithLog(context.Background(), id, func(ctx context.Context, l session.Log) error {
				full, err := l.Full(ctx, []string{"alice"}, []string{"alice"}, most)
				if err != nil || len(full) > 0 {
					return err
				}
				return l.Join(ctx, []string{"alice"}, session.RoleMember, 1, false)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, of := made(t, pool, "alice")
	require.Equal(t, most, of)
	require.LessOrEqual(t, came.Load(), int64(most/2))
}

func errOf(out []committer.Outcome) error {
	if len(out) == 0 {
		return nil
	}
	return out[0].Err
}
