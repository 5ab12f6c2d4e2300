package session_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

// backend is where the sessions of a test are.
type backend interface {
	session.Store
	session.Committer
	addUsers(t testing.TB, ids ...string)
	deactivate(t testing.TB, id string)
	block(t testing.TB, by, peer string)
	// crowd puts a user into as many sessions as a user may be in.
	crowd(t testing.TB, id string)
	// fill makes a session count that many members.
	fill(t testing.TB, id uuid.UUID, members int)
	// direct makes a direct session with one message, by the first user.
	direct(t testing.TB, a, b string) uuid.UUID
	entries(t testing.TB, id uuid.UUID) []message.Entry
	sessionCount(t testing.TB) int
}

// world is the service over a backend.
type world struct {
	backend
	*session.Service
	clock *clockwork.FakeClock
	told  *recorder
}

func newWorld(b backend) *world {
	w := &world{backend: b, clock: clockwork.NewFakeClockAt(time.Unix(1_700_000_000, 123_456_789)), told: &recorder{}}
	w.Service = session.NewService(b, b, w.told, epoch{}, w.clock)
	return w
}

// View is the service's, not the store's.
func (w *world) View(ctx context.Context, user string, id uuid.UUID) (*parleyv1.Session, error) {
	return w.Service.View(ctx, user, id)
}

// Members is the service's, not the store's.
func (w *world) Members(ctx context.Context, viewer string, id uuid.UUID, after string, limit int) ([]session.Member, bool, error) {
	return w.Service.Members(ctx, viewer, id, after, limit)
}

// MemberIDs is the service's, not the store's.
func (w *world) MemberIDs(ctx context.Context, id uuid.UUID) ([]string, error) {
	return w.Service.MemberIDs(ctx, id)
}

// Heads is the service's, not the store's.
func (w *world) Heads(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]int64, error) {
	return w.Service.Heads(ctx, ids)
}

// onEach runs a test in memory and on PostgreSQL.
func onEach(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(newMemory()))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(newPostgres(t)))
	})
}

// postgres is the real backend; storage stands in for the committer, which does nothing else with a change.
type postgres struct {
	storage.Sessions
	pool *pgxpool.Pool
}

func newPostgres(t testing.TB) *postgres {
	pool := testenv.Postgres(t)
	return &postgres{Sessions: storage.Sessions{DB: storage.New(pool)}, pool: pool}
}

func (p *postgres) Change(ctx context.Context, id uuid.UUID, fn session.Change) error {
	_, err := p.WithLog(ctx, id, fn)
	return err
}

func (p *postgres) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := p.pool.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

func (p *postgres) number(t testing.TB, sql string, args ...any) (n int64) {
	t.Helper()
	require.NoError(t, p.pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

func (p *postgres) addUsers(t testing.TB, ids ...string) {
	p.exec(t, `INSERT INTO app_user (user_id, display_name, created_at)
		SELECT u, upper(u), $2 FROM unnest($1::text[]) u ON CONFLICT DO NOTHING`, ids, time.Unix(0, 0))
}

func (p *postgres) deactivate(t testing.TB, id string) {
	p.exec(t, `UPDATE app_user SET deactivated_at = $2 WHERE user_id = $1`, id, time.Unix(1, 0))
}

func (p *postgres) block(t testing.TB, by, peer string) {
	p.exec(t, `INSERT INTO user_to_user (user_id, peer_id, kind, updated_at) VALUES ($1, $2, 3, $3)`, by, peer, time.Unix(1, 0))
}

func (p *postgres) crowd(t testing.TB, id string) {
	p.exec(t, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT $1, gen_random_uuid(), 1, 1, 1 FROM generate_series(1, $2)`, id, session.MaxSessions)
}

func (p *postgres) fill(t testing.TB, id uuid.UUID, members int) {
	p.exec(t, `UPDATE session SET member_count = $2 WHERE session_id = $1`, id, members)
}

func (p *postgres) direct(t testing.TB, a, b string) uuid.UUID {
	id, _, _ := session.DirectID(a, b)
	out, err := storage.NewMessages(p.DB).Append(context.Background(), []message.Draft{p.draft(t, id, a, b)}, time.Unix(2, 0))
	require.NoError(t, err)
	require.NoError(t, out[0].Err)
	return id
}

// draft is a text of a user, whose device is made if it is new.
func (p *postgres) draft(t testing.TB, id uuid.UUID, user, peer string) message.Draft {
	p.exec(t, `INSERT INTO user_to_device (user_id, device_id, created_at) VALUES ($1, $1, $2) ON CONFLICT DO NOTHING`,
		user, time.Unix(0, 0))
	body, err := proto.Marshal(&parleyv1.Message{Content: &parleyv1.Content{
		Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: "hello"}}}})
	require.NoError(t, err)
	return message.Draft{SessionID: id, MessageID: uuid.New(), SenderID: user, SenderDevice: user, Type: message.TypeText,
		Body: body, Digest: message.Digest(message.TypeText, body), Peer: peer}
}

// send commits a text of a user and returns its seq.
func (p *postgres) send(t testing.TB, id uuid.UUID, user string) int64 {
	t.Helper()
	out, err := storage.NewMessages(p.DB).Append(context.Background(), []message.Draft{p.draft(t, id, user, "")}, time.Unix(2, 0))
	require.NoError(t, err)
	require.NoError(t, out[0].Err)
	return out[0].Receipt.Seq
}

func (p *postgres) entries(t testing.TB, id uuid.UUID) []message.Entry {
	t.Helper()
	head := p.number(t, `SELECT coalesce(max(seq_id), 0) FROM msg WHERE session_id = $1`, id)
	found, err := storage.NewMessages(p.DB).ListRanges(context.Background(), []message.Range{{SessionID: id, To: head}})
	require.NoError(t, err)
	return found[0]
}

func (p *postgres) sessionCount(t testing.TB) int {
	return int(p.number(t, `SELECT count(*) FROM session`))
}

type epoch struct{}

func (epoch) Current() string { return "epoch-1" }

// recorder implements session.Notifier.
type recorder struct {
	mu  sync.Mutex
	all []notice
}

type notice struct {
	user, except string
	event        *parleyv1.Event
}

func (r *recorder) NotifyUser(user, except string, ev *parleyv1.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, notice{user, except, ev})
}

func (r *recorder) take() []notice {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

func as(user string) session.Actor { return session.Actor{UserID: user, DeviceID: user + "-phone"} }

// group makes a group of the users, who are made too; the first owns it.
func (w *world) group(t testing.TB, g session.Group, members ...string) uuid.UUID {
	t.Helper()
	w.addUsers(t, members...)
	v, err := w.Create(t.Context(), as(members[0]), nil, g, members[1:])
	require.NoError(t, err)
	return v.Session.ID
}

// member reads a membership under the lock.
func (w *world) member(t testing.TB, id uuid.UUID, user string) (m session.Membership, ok bool) {
	t.Helper()
	require.NoError(t, w.Change(t.Context(), id, func(ctx context.Context, l session.Log) (err error) {
		m, ok, err = l.Member(ctx, user)
		return err
	}))
	return m, ok
}

// locked reads the session under the lock.
func (w *world) locked(t testing.TB, id uuid.UUID) (s session.Session, ok bool) {
	t.Helper()
	require.NoError(t, w.Change(t.Context(), id, func(_ context.Context, l session.Log) error {
		s, ok = l.Session()
		return nil
	}))
	return s, ok
}

// last returns the newest entry and its content.
func (w *world) last(t testing.TB, id uuid.UUID) (message.Entry, *parleyv1.Content) {
	t.Helper()
	all := w.entries(t, id)
	require.NotEmpty(t, all)
	var m parleyv1.Message
	e := all[len(all)-1]
	require.NoError(t, proto.Unmarshal(e.Body, &m))
	return e, m.GetContent()
}

func requireRefused(t testing.TB, want refusal.Reason, err error) {
	t.Helper()
	require.Error(t, err)
	got, ok := refusal.Of(err)
	require.True(t, ok, "no refusal: %v", err)
	require.Equal(t, want, got, "%v", err)
}

func ptr[T any](v T) *T { return &v }
