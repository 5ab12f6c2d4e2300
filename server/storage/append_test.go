package storage_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

// nobody is a publisher that nobody listens to.
type nobody struct{}

func (nobody) Publish(string, []message.Entry)            {}
func (nobody) DirectStarted(string, uuid.UUID, [2]string) {}

func exec(t require.TestingT, pool *pgxpool.Pool, sql string, args ...any) {
	_, err := pool.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

func addUsers(t require.TestingT, pool *pgxpool.Pool, ids ...string) {
	for _, id := range ids {
		exec(t, pool, `INSERT INTO app_user (user_id, created_at) VALUES ($1, now())`, id)
		exec(t, pool, `INSERT INTO user_to_device (user_id, device_id, created_at) VALUES ($1, 'd', now())`, id)
	}
}

// addGroup makes a group whose log is empty.
func addGroup(t require.TestingT, pool *pgxpool.Pool, members ...string) uuid.UUID {
	id := uuid.New()
	exec(t, pool, `INSERT INTO session (session_id, kind, owner_id, member_count, created_at) VALUES ($1, 2, $2, $3, now())`,
		id, members[0], len(members))
	for _, m := range members {
		exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq) VALUES ($1, $2, 1, 1, 1)`, m, id)
	}
	return id
}

func draftOf(id uuid.UUID, user, body string) message.Draft {
	return message.Draft{SessionID: id, MessageID: uuid.New(), SenderID: user, SenderDevice: "d", Type: message.TypeText,
		Body: []byte(body), Digest: message.Digest(message.TypeText, []byte(body))}
}

func one(t require.TestingT, s *storage.Messages, d message.Draft) committer.Outcome {
	out, err := s.Append(context.Background(), []message.Draft{d}, time.Now())
	require.NoError(t, err)
	return out[0]
}

// What is committed names the epoch of the connection that it was committed on, be it the present one or not.
func TestCommitsNameTheEpochOfTheirConnection(t *testing.T) {
	var seen string
	pool, err := storage.OpenWatchedPool(t.Context(), testenv.PostgresURL(t), 1, func(epoch string) bool { seen = epoch; return false })
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	addUsers(t, pool, "alice", "bob")
	id := addGroup(t, pool, "alice", "bob")
	s := storage.NewMessages(storage.New(pool))
	require.Equal(t, seen, one(t, s, draftOf(id, "alice", "x")).Receipt.Epoch)
	require.NotEmpty(t, seen)
	_, epoch, err := s.WithLog(t.Context(), id, func(context.Context, session.Log) error { return nil })
	require.NoError(t, err)
	require.Equal(t, seen, epoch)
}

func TestAppendJudgesItemByItem(t *testing.T) {
	pool := testenv.Postgres(t)
	s := storage.NewMessages(storage.New(pool))
	addUsers(t, pool, "alice", "bob", "carol", "gone", "muted", "revoked", "off", "quiet", "loud", "stranger")
	id := addGroup(t, pool, "alice", "bob", "gone", "muted", "revoked", "off")
	exec(t, pool, `UPDATE user_to_session SET left_seq = 1 WHERE user_id = 'gone'`)
	exec(t, pool, `UPDATE user_to_session SET is_muted = true WHERE user_id = 'muted'`)
	exec(t, pool, `UPDATE user_to_device SET revoked_at = now() WHERE user_id = 'revoked'`)
	exec(t, pool, `UPDATE app_user SET deactivated_at = now() WHERE user_id = 'off'`)
	exec(t, pool, `INSERT INTO user_to_user VALUES ('quiet', 'alice', 3, now()), ('alice', 'loud', 3, now())`)
	announce := addGroup(t, pool, "bob", "alice")
	exec(t, pool, `UPDATE session SET send_role = 2 WHERE session_id = $1`, announce)

	direct := func(from, to string) message.Draft {
		sid, _, _ := session.DirectID(from, to)
		d := draftOf(sid, from, "hi")
		d.Peer = to
		return d
	}
	reply := draftOf(id, "bob", "re")
	reply.ReplyTo = 99
	cases := []struct {
		draft message.Draft
		want  refusal.Reason
	}{
		{draftOf(id, "alice", "one"), ""},
		{draftOf(uuid.New(), "alice", "x"), refusal.SessionUnavailable},
		{draftOf(id, "stranger", "x"), refusal.SessionUnavailable},
		{draftOf(id, "gone", "x"), refusal.SessionUnavailable},
		{draftOf(id, "muted", "x"), refusal.Muted},
		{draftOf(id, "revoked", "x"), refusal.DeviceRevoked},
		{draftOf(id, "off", "x"), refusal.UserDeactivated},
		{draftOf(announce, "alice", "x"), refusal.RoleTooLow},
		{direct("alice", "nobody at all"), refusal.RecipientUnavailable},
		{direct("alice", "off"), refusal.RecipientUnavailable},
		{direct("alice", "quiet"), refusal.RecipientUnavailable},
		{direct("alice", "loud"), refusal.RecipientBlockedByYou},
		{direct("alice", "bob"), ""},
		{reply, refusal.MessageUnavailable},
		{draftOf(id, "bob", "two"), ""},
	}
	drafts := make([]message.Draft, len(cases))
	for i, c := range cases {
		drafts[i] = c.draft
	}
	out, err := s.Append(t.Context(), drafts, time.Now())
	require.NoError(t, err)
	for i, c := range cases {
		reason, _ := refusal.Of(out[i].Err)
		require.Equal(t, c.want, reason, "item %d: %v", i, out[i].Err)
	}
	require.EqualValues(t, 1, out[0].Receipt.Seq)
	require.EqualValues(t, 2, out[14].Receipt.Seq, "refused items leave no hole")
	require.EqualValues(t, 1, out[12].Receipt.Seq)

	// A block that comes later stops a direct session that exists.
	exec(t, pool, `INSERT INTO user_to_user VALUES ('bob', 'alice', 3, now())`)
	reason, _ := refusal.Of(one(t, s, direct("alice", "bob")).Err)
	require.Equal(t, refusal.RecipientUnavailable, reason)
	reason, _ = refusal.Of(one(t, s, direct("bob", "alice")).Err)
	require.Equal(t, refusal.RecipientBlockedByYou, reason)
}

func TestAppendIsIdempotent(t *testing.T) {
	pool := testenv.Postgres(t)
	s := storage.NewMessages(storage.New(pool))
	addUsers(t, pool, "alice", "bob")
	id, other := addGroup(t, pool, "alice", "bob"), addGroup(t, pool, "alice", "bob")
	d := draftOf(id, "alice", "once")
	first := one(t, s, d)
	require.True(t, first.New)
	again := one(t, s, d)
	require.False(t, again.New)
	require.Equal(t, first.Receipt, again.Receipt, "the same seq and the same time")

	changed := d
	changed.Digest++
	require.ErrorIs(t, one(t, s, changed).Err, committer.ErrIDReused)

	byBob, elsewhere := d, d
	byBob.SenderID, elsewhere.SessionID = "bob", other
	require.True(t, one(t, s, byBob).New, "ids of other users are independent")
	require.True(t, one(t, s, elsewhere).New, "and of other sessions")

	// The first answer also after the sender was removed, and after a recall.
	exec(t, pool, `UPDATE user_to_session SET left_seq = 5 WHERE user_id = 'alice' AND session_id = $1`, id)
	exec(t, pool, `UPDATE msg SET content = NULL, is_delete = true, recall_seq = 5 WHERE session_id = $1 AND seq_id = 1`, id)
	require.Equal(t, first.Receipt, one(t, s, d).Receipt)
	require.ErrorIs(t, one(t, s, changed).Err, committer.ErrIDReused)
}

func TestSendingReadsUpToThere(t *testing.T) {
	pool := testenv.Postgres(t)
	s := storage.NewMessages(storage.New(pool))
	addUsers(t, pool, "alice", "bob")
	id := addGroup(t, pool, "alice", "bob")
	for range 3 {
		one(t, s, draftOf(id, "alice", "x"))
	}
	one(t, s, draftOf(id, "bob", "y"))
	var read, unreadAlice int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT read_seq FROM user_to_session WHERE user_id = 'bob'`).Scan(&read))
	require.EqualValues(t, 4, read)
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT parley_unread('alice', $1, 3, countable_total) FROM session WHERE session_id = $1`, id).Scan(&unreadAlice))
	require.EqualValues(t, 1, unreadAlice)
}

// One batch with all that makes its items depend on each other: refused ones between others, a session that is not there,
// a repeat, and one user on two devices.
func TestBatchLeavesNoHoleAndReadsAsFarAsItWent(t *testing.T) {
	pool := testenv.Postgres(t)
	s := storage.NewMessages(storage.New(pool))
	addUsers(t, pool, "alice", "bob", "muted")
	exec(t, pool, `INSERT INTO user_to_device (user_id, device_id, created_at) VALUES ('alice', 'e', now())`)
	id, other, quiet := addGroup(t, pool, "alice", "bob", "muted"), addGroup(t, pool, "alice", "bob"), addGroup(t, pool, "alice", "muted")
	exec(t, pool, `UPDATE user_to_session SET is_muted = true WHERE user_id = 'muted'`)
	repeat := draftOf(other, "bob", "was there before")
	first := one(t, s, repeat)
	fromE := func(d message.Draft) message.Draft { d.SenderDevice = "e"; return d }

	drafts := []message.Draft{
		draftOf(id, "muted", "x"), draftOf(id, "alice", "1"), draftOf(quiet, "muted", "x"), draftOf(other, "alice", "2"),
		repeat, fromE(draftOf(id, "alice", "2")), draftOf(uuid.New(), "alice", "x"), draftOf(id, "muted", "x"),
		draftOf(id, "bob", "3"), draftOf(id, "alice", "4"), fromE(draftOf(other, "alice", "3")),
	}
	want := []int64{0, 1, 0, 2, 1, 2, 0, 0, 3, 4, 3}
	out, err := s.Append(t.Context(), drafts, time.Now())
	require.NoError(t, err)
	for i, o := range out {
		require.Equal(t, want[i], o.Receipt.Seq, "item %d: %v", i, o.Err)
		require.Equal(t, want[i] == 0, o.Err != nil, "item %d", i)
		require.Equal(t, o.Err == nil && i != 4, o.New, "item %d", i)
	}
	require.Equal(t, first.Receipt, out[4].Receipt)

	heads := func(id uuid.UUID) (head, countable, logged int64) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT last_seq, countable_total, (SELECT max(h.head)
			FROM commit_log c CROSS JOIN LATERAL ROWS FROM (unnest(c.session_ids), unnest(c.heads)) AS h (id, head)
			WHERE h.id = session_id) FROM session WHERE session_id = $1`, id).Scan(&head, &countable, &logged))
		return head, countable, logged
	}
	read := func(user string, id uuid.UUID) (seq int64) {
		require.NoError(t, pool.QueryRow(t.Context(),
			`SELECT read_seq FROM user_to_session WHERE user_id = $1 AND session_id = $2`, user, id).Scan(&seq))
		return seq
	}
	for id, last := range map[uuid.UUID]int64{id: 4, other: 3} {
		head, countable, logged := heads(id)
		require.Equal(t, []int64{last, last, last}, []int64{head, countable, logged})
		require.Equal(t, last, read("alice", id))
	}
	require.EqualValues(t, 3, read("bob", id))
	require.EqualValues(t, 1, read("bob", other))
	require.Zero(t, read("muted", id))
	var countables []int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT array_agg(countable_no ORDER BY seq_id) FROM msg WHERE session_id = $1`,
		id).Scan(&countables))
	require.Equal(t, []int64{1, 2, 3, 4}, countables)
	var untouched int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT last_seq + countable_total FROM session WHERE session_id = $1`,
		quiet).Scan(&untouched))
	require.Zero(t, untouched, "a refused item takes no seq")

	// Nothing refused, and still one user on two devices.
	out, err = s.Append(t.Context(), []message.Draft{
		draftOf(id, "alice", "5"), fromE(draftOf(id, "alice", "6")), draftOf(other, "bob", "4")}, time.Now())
	require.NoError(t, err)
	require.EqualValues(t, 6, out[1].Receipt.Seq)
	require.EqualValues(t, 6, read("alice", id))
	require.EqualValues(t, 4, read("bob", other))
}

// A mark that moves the membership while a batch runs is neither lost nor does it cost the batch its own.
func TestSendingReadsUpToThereBesideMarks(t *testing.T) {
	pool := testenv.Postgres(t)
	s := storage.NewMessages(storage.New(pool))
	addUsers(t, pool, "alice")
	id := addGroup(t, pool, "alice")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = pool.Exec(ctx, `UPDATE user_to_session SET is_pinned = NOT is_pinned, marked_unread = true`)
			}
		})
	}
	var read int64
	for range 300 {
		out := one(t, s, draftOf(id, "alice", "x"))
		require.NoError(t, out.Err)
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT read_seq FROM user_to_session`).Scan(&read))
		require.Equal(t, out.Receipt.Seq, read)
	}
	stop()
	wg.Wait()
}

// A1 of the acceptance list in short form: many writers, repeats, callers who leave, and transactions that PostgreSQL is
// made to roll back, leave neither a hole nor a duplicate, and every acknowledged send is there once.
func TestSeqsAreGaplessAndUniqueUnderFaults(t *testing.T) {
	const writers, sessions = 64, 8
	sends := 20_000
	if testing.Short() {
		sends = 3_000
	}
	pool := testenv.Postgres(t)
	s := storage.NewMessages(storage.New(pool))
	spoiled := &saboteur{Messages: s, pool: pool, over: make(chan struct{})}
	c := committer.New(4, spoiled, nobody{}, clockwork.NewRealClock(), slog.New(slog.DiscardHandler), nil)
	users := make([]string, writers)
	for i := range users {
		users[i] = fmt.Sprintf("user%02d", i)
	}
	addUsers(t, pool, users...)
	ids := make([]uuid.UUID, sessions)
	for i := range ids {
		ids[i] = addGroup(t, pool, users...)
	}
	spoiled.held = ids[0]

	var mu sync.Mutex
	acked := map[string]message.Receipt{}
	conflicts := 0
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w))) //nolint:gosec // a test
			var last message.Draft
			for n := range sends / writers {
				d := draftOf(ids[rnd.IntN(sessions)], users[w], fmt.Sprint(w, n))
				if rnd.IntN(10) == 0 && last.SenderID != "" {
					d = last
				}
				last = d
				ctx, cancel := context.WithCancel(context.Background())
				if rnd.IntN(10) == 0 {
					time.AfterFunc(time.Duration(rnd.IntN(3))*time.Millisecond, cancel)
				}
				out, err := c.Send(ctx, []message.Draft{d})
				cancel()
				if err != nil || out[0].Err != nil {
					continue // uncertain
				}
				mu.Lock()
				key := fmt.Sprint(d.SessionID, d.MessageID, d.SenderID)
				if was, ok := acked[key]; ok && was != out[0].Receipt {
					conflicts++
				}
				acked[key] = out[0].Receipt
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	c.Close()
	close(spoiled.over)
	spoiled.wg.Wait()
	pool.Reset() // some of its connections were ended and do not know it yet
	require.Zero(t, conflicts, "two answers to one id")
	t.Logf("%d sends acknowledged, %d backends terminated", len(acked), spoiled.ended.Load())
	require.Positive(t, spoiled.ended.Load(), "no transaction was ended in its middle: the test tests nothing")
	require.Greater(t, len(acked), sends/4)

	for _, id := range ids {
		var count, highest, distinct, head, countable int64
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*), coalesce(max(seq_id), 0), count(DISTINCT (msg_id, user_id)),
			(SELECT last_seq FROM session WHERE session_id = $1), (SELECT countable_total FROM session WHERE session_id = $1)
			FROM msg WHERE session_id = $1`, id).Scan(&count, &highest, &distinct, &head, &countable))
		require.Equal(t, count, highest, "a hole")
		require.Equal(t, count, distinct, "a duplicate")
		require.Equal(t, count, head)
		require.Equal(t, count, countable)
	}
	for key, r := range acked {
		var seq int64
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT seq_id FROM msg WHERE session_id = $1 AND msg_id = $2`,
			r.SessionID, r.MessageID).Scan(&seq), key)
		require.Equal(t, r.Seq, seq)
	}
}

// Two nodes make the same direct session at the same time.
func TestDirectSessionIsMadeOnce(t *testing.T) {
	pool := testenv.Postgres(t)
	addUsers(t, pool, "alice", "bob")
	sid, _, _ := session.DirectID("alice", "bob")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			s := storage.NewMessages(storage.New(pool)) // knows of no session yet
			from, to := "alice", "bob"
			if i%2 == 1 {
				from, to = to, from
			}
			d := draftOf(sid, from, "hi")
			d.Peer = to
			if out, err := s.Append(context.Background(), []message.Draft{d}, time.Now()); err != nil || out[0].Err != nil {
				t.Error(errors.Join(err, out[0].Err))
			}
		})
	}
	wg.Wait()
	var head, members int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT last_seq, (SELECT count(*) FROM user_to_session) FROM session`).Scan(&head, &members))
	require.EqualValues(t, 16, head)
	require.EqualValues(t, 2, members)
}
