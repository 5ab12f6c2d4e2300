package storage_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/webhook"
)

// hooks is the adapter on a database of its own, with a job that takes everything at once.
type hooks struct {
	*storage.Webhooks
	t    *testing.T
	pool *pgxpool.Pool
	logs *storage.Messages

	mu    sync.Mutex
	drain storage.Drain
}

func newHooks(t *testing.T) *hooks {
	h := &hooks{t: t, pool: testenv.Postgres(t)}
	h.logs = storage.NewMessages(storage.New(h.pool))
	var err error
	h.Webhooks, err = storage.NewWebhooks(storage.New(h.pool), func() storage.Drain {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.drain
	}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	h.drain = h.takeAll
	return h
}

// takeAll settles whatever a lane waits for as delivered.
func (h *hooks) takeAll(ctx context.Context, id, lane uuid.UUID) (webhook.Rest, error) {
	for {
		_, d, ok, err := h.Next(ctx, id, lane)
		if err != nil || !ok {
			return webhook.Rest{Done: true}, err
		}
		if err := h.Settle(ctx, d, webhook.Attempt{At: time.Now(), Status: 200}, webhook.Delivered, time.Now()); err != nil {
			return webhook.Rest{}, err
		}
	}
}

func (h *hooks) work() {
	require.NoError(h.t, h.Work(h.t.Context()))
	h.t.Cleanup(func() { require.NoError(h.t, h.StopWork(context.Background())) })
}

func (h *hooks) hook(events ...webhook.EventType) webhook.Webhook {
	w := webhook.Webhook{ID: uuid.New(), URL: "https://hooks.example/", Events: events, Enabled: true, Timeout: time.Second, Secret: []byte("sealed"), CreatedAt: time.Now()}
	ok, err := h.Create(h.t.Context(), w, 20)
	require.NoError(h.t, err)
	require.True(h.t, ok)
	return w
}

func (h *hooks) read() webhook.Reading {
	r, err := h.Read(h.t.Context(), "epoch", time.Now())
	require.NoError(h.t, err)
	return r
}

func (h *hooks) count(sql string, args ...any) (n int) {
	require.NoError(h.t, h.pool.QueryRow(h.t.Context(), sql, args...).Scan(&n))
	return n
}

// send commits n messages to a session in one group commit.
func (h *hooks) send(id uuid.UUID, user string, n int) error {
	drafts := make([]message.Draft, n)
	for i := range drafts {
		drafts[i] = draftOf(id, user, "x")
	}
	out, err := h.logs.Append(context.Background(), drafts, time.Now())
	for _, o := range out {
		if err == nil {
			err = o.Err
		}
	}
	return err
}

// Several readers at once, group commits of several messages, and a transaction that stays open: every entry after the
// webhook becomes one delivery, in order, and none from before does.
func TestWebhookReaderMissesNothingAndRepeatsNothing(t *testing.T) {
	h := newHooks(t)
	addUsers(t, h.pool, "alice", "bob")
	const sessions, before, batches, size = 6, 7, 15, 3
	ids := make([]uuid.UUID, sessions)
	heads := make(map[uuid.UUID]int)
	for i := range ids {
		ids[i] = addGroup(t, h.pool, "alice", "bob")
		require.NoError(t, h.send(ids[i], "alice", before))
		heads[ids[i]] = h.count("SELECT last_seq FROM session WHERE session_id = $1", ids[i])
	}
	idle, err := h.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = idle.Rollback(context.Background()) }()
	_, err = idle.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)
	require.Zero(t, h.read(), "nobody is to be told")
	first, second := h.hook(webhook.MessageCreated), h.hook(webhook.MessageCreated, webhook.MessageOffline)

	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for _, id := range ids {
		writers.Go(func() {
			for range batches {
				if err := h.send(id, "alice", size); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				if _, err := h.Read(context.Background(), "epoch", time.Now()); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	h.read()
	require.Zero(t, h.read().Deliveries)
	for _, id := range ids {
		for w, kinds := range map[uuid.UUID]int{first.ID: 1, second.ID: 2} {
			rows, err := h.pool.Query(t.Context(), `SELECT seq_id, event_type FROM webhook_delivery WHERE webhook_id = $1 AND lane = $2 ORDER BY position`, w, id)
			require.NoError(t, err)
			var got, want []string
			for rows.Next() {
				var seq, kind int
				require.NoError(t, rows.Scan(&seq, &kind))
				got = append(got, fmt.Sprint(seq, " ", kind))
			}
			require.NoError(t, rows.Err())
			for n := range batches * size {
				for k := range kinds {
					want = append(want, fmt.Sprint(heads[id]+n+1, " ", []int{1, 6}[k]))
				}
			}
			require.Equal(t, want, got)
		}
	}
	require.Equal(t, 2*sessions, h.count("SELECT count(*) FROM river.river_job"), "one job per lane")
}

// Readers that add to a lane beside the job that ends it: none is left waiting without a job.
func TestWebhookJobIsNeverMissing(t *testing.T) {
	h := newHooks(t)
	addUsers(t, h.pool, "alice", "bob")
	id := addGroup(t, h.pool, "alice", "bob")
	w := h.hook(webhook.MessageCreated)
	h.work()
	for range 150 {
		require.NoError(t, h.send(id, "alice", 1))
		h.read()
	}
	require.Eventually(t, func() bool {
		n, err := h.Waiting(t.Context(), w.ID, 1000)
		return err == nil && n == 0
	}, 2*time.Minute, 20*time.Millisecond)
	require.Equal(t, 150, h.count("SELECT count(*) FROM webhook_delivery WHERE state = 2"))
	require.Equal(t, 150, h.count("SELECT count(*) FROM webhook_attempt"))
}

// What the reader has yet to read is not trimmed, unless it is away for a day; then it says so and goes on.
func TestWebhookReaderHoldsTrimmingBack(t *testing.T) {
	h := newHooks(t)
	f := storage.Feed{DB: storage.New(h.pool)}
	addUsers(t, h.pool, "alice", "bob")
	id := addGroup(t, h.pool, "alice", "bob")
	trim := func() int64 {
		b, err := f.Poll(t.Context(), "")
		require.NoError(t, err)
		n, err := f.Trim(t.Context(), b.Snapshot)
		require.NoError(t, err)
		return n
	}
	// trimmed waits until nothing is left: other databases of the same server may have older transactions still.
	trimmed := func() {
		require.Eventually(t, func() bool {
			trim()
			return h.count(`SELECT (SELECT count(*) FROM commit_log) + (SELECT count(*) FROM relation_change)`) == 0
		}, 10*time.Minute, 20*time.Millisecond, "not trimmed")
	}
	trimmed()
	h.hook(webhook.MessageCreated, webhook.RelationChanged)
	require.NoError(t, h.send(id, "alice", 2))
	exec(t, h.pool, `INSERT INTO user_to_user (user_id, peer_id, kind, updated_at) VALUES ('alice', 'bob', 3, now())`)
	require.Zero(t, trim())
	require.EqualValues(t, 3, h.read().Deliveries)
	trimmed()
	require.NoError(t, h.send(id, "alice", 2))
	exec(t, h.pool, `UPDATE webhook_reader SET read_at = now() - interval '25 hours'`)
	trimmed()
	require.NoError(t, h.send(id, "alice", 1))
	r := h.read()
	require.True(t, r.Late)
	require.EqualValues(t, 3, r.Deliveries, "a session that was told lately is made up for")
	require.False(t, h.read().Late)
}

// Disabled, nothing is queued and nothing sent; enabled, what waits goes on; deleted, all of it goes.
func TestWebhookDisabledEnabledDeleted(t *testing.T) {
	h := newHooks(t)
	addUsers(t, h.pool, "alice", "bob")
	id := addGroup(t, h.pool, "alice", "bob")
	w := h.hook(webhook.MessageCreated)
	require.NoError(t, h.send(id, "alice", 3))
	h.read()
	disabled, err := h.Disable(t.Context(), w.ID, webhook.BacklogFull, time.Now())
	require.NoError(t, err)
	require.True(t, disabled)
	disabled, err = h.Disable(t.Context(), w.ID, webhook.BacklogFull, time.Now())
	require.NoError(t, err)
	require.False(t, disabled)
	_, active, err := h.Generation(t.Context())
	require.NoError(t, err)
	require.False(t, active)
	h.work()
	require.Eventually(t, func() bool { return h.count("SELECT count(*) FROM river.river_job WHERE state = 'completed'") > 0 }, time.Minute, 20*time.Millisecond)
	require.NoError(t, h.send(id, "alice", 4))
	require.Zero(t, h.read())
	require.Equal(t, 3, h.count("SELECT count(*) FROM webhook_delivery WHERE state = 1"))

	ok, err := h.Change(t.Context(), w.ID, func(w *webhook.Webhook) error { w.Enabled = true; return nil })
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, h.send(id, "alice", 1))
	h.read()
	require.Eventually(t, func() bool { return h.count("SELECT count(*) FROM webhook_delivery WHERE state = 2") == 4 }, time.Minute, 20*time.Millisecond)

	log, err := h.Log(t.Context(), w.ID, 0, webhook.Place{Position: math.MaxInt64}, 10)
	require.NoError(t, err)
	require.Len(t, log, 4)
	require.Len(t, log[0].Recent, 1)
	ok, err = h.Delete(t.Context(), w.ID)
	require.NoError(t, err)
	require.True(t, ok)
	more, err := h.Tidy(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour), 3)
	require.NoError(t, err)
	require.True(t, more)
	more, err = h.Tidy(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour), 3)
	require.NoError(t, err)
	require.False(t, more)
	for _, table := range []string{"webhook_delivery", "webhook_attempt", "webhook_session"} {
		require.Zero(t, h.count("SELECT count(*) FROM "+table), table)
	}
}

func TestWebhooksAreFewAndOneModerates(t *testing.T) {
	h := newHooks(t)
	w := webhook.Webhook{ID: uuid.New(), URL: "x", Events: []webhook.EventType{webhook.Moderation}, OnFailure: webhook.Allow, Timeout: time.Second, Secret: []byte("s"), CreatedAt: time.Now()}
	ok, err := h.Create(t.Context(), w, 2)
	require.NoError(t, err)
	require.True(t, ok)
	_, active, err := h.Generation(t.Context())
	require.NoError(t, err)
	require.False(t, active, "moderation alone needs no reader")
	w.ID = uuid.New()
	_, err = h.Create(t.Context(), w, 2)
	require.ErrorIs(t, err, webhook.ErrModerationTaken)
	h.hook(webhook.MessageCreated)
	w.ID, w.Events, w.OnFailure = uuid.New(), []webhook.EventType{webhook.MessageCreated}, webhook.Undecided
	ok, err = h.Create(t.Context(), w, 2)
	require.NoError(t, err)
	require.False(t, ok)
	list, err := h.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
}
