package state_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/storage"
)

// world is a database with the service over it, and hands that do by plain SQL what other parts of the server do.
type world struct {
	ctx      context.Context
	pool     *pgxpool.Pool
	states   *state.Service
	store    storage.States
	notified *recorder
}

func newWorld(ctx context.Context, pool *pgxpool.Pool) *world {
	w := &world{ctx: ctx, pool: pool, store: storage.States{DB: storage.New(pool)}, notified: &recorder{}}
	w.states = state.NewService(w.store, w.notified)
	return w
}

// told is what the notifier was told by one change.
type told struct {
	user, except string
	event        *parleyv1.StateEvent
	handled      int64
}

// recorder implements state.Notifier.
type recorder struct {
	mu    sync.Mutex
	all   []told
	reads []read
}

// read is what others are told.
type read struct {
	user    string
	session uuid.UUID
	seq     int64
}

func (r *recorder) NotifyUser(user, except string, ev *parleyv1.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, told{user: user, except: except, event: ev.GetState()})
}

func (r *recorder) Read(user string, session uuid.UUID, readSeq int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads = append(r.reads, read{user, session, readSeq})
}

// Handled belongs to the last NotifyUser of a test that makes one change at a time.
func (r *recorder) Handled(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.all); n > 0 {
		r.all[n-1].handled = id
	}
}

// take returns what was told since the last take.
func (r *recorder) take() []told {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

func (w *world) exec(t require.TestingT, sql string, args ...any) {
	_, err := w.pool.Exec(w.ctx, sql, args...)
	require.NoError(t, err)
}

func (w *world) number(t require.TestingT, sql string, args ...any) (n int64) {
	require.NoError(t, w.pool.QueryRow(w.ctx, sql, args...).Scan(&n))
	return n
}

func (w *world) users(t require.TestingT, ids ...string) {
	w.exec(t, `INSERT INTO app_user (user_id, created_at) SELECT unnest($1::text[]), $2 ON CONFLICT DO NOTHING`,
		ids, time.Unix(0, 0))
}

// group makes a session whose entry 1 makes the users members.
func (w *world) group(t require.TestingT, members ...string) uuid.UUID {
	id := uuid.New()
	w.users(t, members...)
	w.exec(t, `INSERT INTO session (session_id, kind, owner_id, created_at) VALUES ($1, 2, $2, $3)`,
		id, members[0], time.Unix(0, 0))
	w.entry(t, id, members[0], message.TypeMemberChange)
	w.exec(t, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT unnest($2::text[]), $1, 1, 1, 1`, id, members)
	return id
}

// entry appends an entry and returns its seq. Like the send path it locks the session first, and moves the sender's
// watermark then.
func (w *world) entry(t require.TestingT, id uuid.UUID, sender string, typ message.Type) (seq int64) {
	err := pgx.BeginFunc(w.ctx, w.pool, func(tx pgx.Tx) (err error) {
		seq, err = appendEntry(w.ctx, tx, id, sender, typ)
		return err
	})
	require.NoError(t, err)
	return seq
}

func appendEntry(ctx context.Context, tx pgx.Tx, id uuid.UUID, sender string, typ message.Type) (seq int64, err error) {
	var countable int64
	if typ.Countable() {
		countable = 1
	}
	err = tx.QueryRow(ctx, `UPDATE session SET last_seq = last_seq + 1, countable_total = countable_total + $2
		WHERE session_id = $1 RETURNING last_seq, countable_total`, id, countable).Scan(&seq, &countable)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest,
		countable_no, created_at) VALUES ($1, $2, $3, $4, 'd', $5, '', 1, $6, $7)`,
		id, seq, uuid.New(), sender, int16(typ), countable, time.Unix(0, 0))
	if err == nil && typ.Countable() {
		_, err = tx.Exec(ctx, `UPDATE user_to_session SET read_seq = $3, marked_unread = false
			WHERE user_id = $1 AND session_id = $2 AND read_seq < $3`, sender, id, seq)
	}
	return seq, err
}

func (w *world) text(t require.TestingT, id uuid.UUID, sender string) int64 {
	return w.entry(t, id, sender, message.TypeText)
}

// texts appends n texts.
func (w *world) texts(t require.TestingT, id uuid.UUID, sender string, n int) {
	for range n {
		w.text(t, id, sender)
	}
}

func (w *world) recall(t require.TestingT, id uuid.UUID, by string, seq int64) int64 {
	at := w.entry(t, id, by, message.TypeRecall)
	w.exec(t, `UPDATE msg SET content = NULL, is_delete = true, recall_seq = $3
		WHERE session_id = $1 AND seq_id = $2 AND NOT is_delete`, id, seq, at)
	return at
}

// join makes a user a member (again) and returns the seq of the entry that says so. fromStart shows the past.
func (w *world) join(t require.TestingT, id uuid.UUID, user string, fromStart bool) int64 {
	w.users(t, user)
	seq := w.entry(t, id, user, message.TypeMemberChange)
	visible := seq
	if fromStart {
		visible = 1
	}
	w.exec(t, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq) VALUES ($1, $2, 1, $3, $4)
		ON CONFLICT (user_id, session_id) DO UPDATE SET joined_seq = $3, visible_seq = $4, left_seq = NULL,
			earlier = user_to_session.earlier
				+ int8multirange(int8range(user_to_session.visible_seq, user_to_session.left_seq, '[]'))`,
		user, id, seq, visible)
	return seq
}

func (w *world) leave(t require.TestingT, id uuid.UUID, user string) int64 {
	seq := w.entry(t, id, user, message.TypeMemberChange)
	w.exec(t, `UPDATE user_to_session SET left_seq = $3 WHERE user_id = $1 AND session_id = $2`, user, id, seq)
	return seq
}

// view returns the user's view of one session.
func (w *world) view(t require.TestingT, user string, id uuid.UUID) state.View {
	views, err := w.store.Views(w.ctx, user, []uuid.UUID{id})
	require.NoError(t, err)
	require.Len(t, views, 1)
	return views[0]
}

// rows counts the user's exceptions in a session.
func (w *world) rows(t require.TestingT, user string, id uuid.UUID) int64 {
	return w.number(t, `SELECT count(*) FROM msg_state WHERE user_id = $1 AND session_id = $2`, user, id)
}

// notes counts the commit log's rows about the user's states in a session.
func (w *world) notes(t require.TestingT, user string, id uuid.UUID) int64 {
	return w.number(t, `SELECT count(*) FROM commit_log WHERE state_users = ARRAY[$1] AND state_sessions = ARRAY[$2::uuid]`,
		user, id)
}

// on is a user on one of their devices.
func on(user string) session.Actor { return session.Actor{UserID: user, DeviceID: user + "-phone"} }

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("user-%05d", i)
	}
	return out
}
