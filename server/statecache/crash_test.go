package statecache_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/breaker"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
	"github.com/parley-im/parley/server/storage"
)

// What a doomed process is told by its environment.
const (
	doomedSession  = "PARLEY_TEST_DOOMED_SESSION"
	doomedUser     = "PARLEY_TEST_DOOMED_USER"
	doomedPostgres = "PARLEY_TEST_DOOMED_POSTGRES"
	doomedRedis    = "PARLEY_TEST_DOOMED_REDIS"
	doomedEpoch    = "PARLEY_TEST_DOOMED_EPOCH"
)

// doomed is a node that marks a session as read up to its head. It is killed while its delete is under way; that it was
// answered is printed.
func doomed() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv(doomedPostgres))
	if err != nil {
		panic(err)
	}
	hasty, err := storage.OpenRedis(os.Getenv(doomedRedis))
	if err != nil {
		panic(err)
	}
	client, err := testenv.Unhurried(hasty) // it is to be killed while it waits
	if err != nil {
		panic(err)
	}
	clock, log := clockwork.NewRealClock(), slog.New(slog.DiscardHandler)
	cache := storage.NewStateCache(client, func() string { return os.Getenv(doomedEpoch) }, statecache.DefaultLease, time.Hour)
	b := breaker.New(func(context.Context) error { return nil }, clock, log, nil)
	store := statecache.New(storage.States{DB: storage.New(pool)}, cache, b,
		statecache.Config{Lease: statecache.DefaultLease, TTL: time.Hour}, clock, nil)
	by := session.Actor{UserID: os.Getenv(doomedUser), DeviceID: "d"}
	_, err = state.NewService(store, silent{}).MarkReadTo(ctx, by, uuid.MustParse(os.Getenv(doomedSession)), head)
	fmt.Println("answered", err) //nolint:forbidigo // for the test that started this process
}

// deletes tells when a delete of a session's key is on its way to Redis, and keeps it there.
type deletes struct {
	mu   sync.Mutex
	seen map[uuid.UUID]chan struct{}
	free chan struct{}
}

func (d *deletes) before(sent []byte) {
	if !isDelete(sent) {
		return
	}
	d.mu.Lock()
	for id, seen := range d.seen {
		if bytes.Contains(sent, []byte(id.String())) {
			close(seen)
			delete(d.seen, id)
		}
	}
	d.mu.Unlock()
	<-d.free
}

// isDelete reports whether a delete is among what is sent.
func isDelete(sent []byte) bool { return bytes.Contains(bytes.ToLower(sent), []byte("\r\ndel\r\n")) }

// A node is killed after it has committed a mark and before its delete has reached Redis, again and again. The value from
// before is in the cache by then, and a live node that reads it all the time is told nothing that is older than its feed's
// last poll, of which there is one each second.
func TestAKilledNodesMarksAreFound(t *testing.T) {
	url, epoch := testenv.Redis(t)
	kills := 100
	if testing.Short() {
		kills = 8
	}
	w := newWorld(t, epoch, 1, kills)
	live := w.node(t, url, options{feed: true})
	held := &deletes{seen: make(map[uuid.UUID]chan struct{}), free: make(chan struct{})}
	slow := throughProxy(t, url, held.before)
	defer close(held.free)

	var holes, late atomic.Int64
	work := make(chan uuid.UUID)
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			for id := range work {
				live.read(t, w.users[0], id)
				kill(t, w, held, slow, id, func() {
					if live.read(t, w.users[0], id)[id].ReadSeq != head {
						holes.Add(1)
					}
				})
				killed := time.Now() //nolint:forbidigo // as the feed's clock
				for {
					polled := live.polled.Load() > killed.UnixNano() || time.Since(killed) > time.Minute //nolint:forbidigo // as above
					if live.read(t, w.users[0], id)[id].ReadSeq == head {
						break
					}
					if polled {
						late.Add(1)
						break
					}
					time.Sleep(5 * time.Millisecond) //nolint:forbidigo // between looks
				}
			}
		})
	}
	for _, id := range w.sessions {
		work <- id
	}
	close(work)
	all.Wait()
	t.Logf("%d kills, in %d of them a stale value was there, %d of them were read after a poll", kills, holes.Load(), late.Load())
	require.Zero(t, late.Load())
	// On a busy machine the feed comes before whoever looks, however often.
	require.Positive(t, holes.Load(), "nothing stale was left behind: the test tests nothing")
	differing, _ := live.differing(t)
	require.Zero(t, differing)
}

// kill runs a doomed node, calls before when its delete is under way, and kills it.
func kill(t *testing.T, w *world, held *deletes, redis string, id uuid.UUID, before func()) {
	self, err := os.Executable()
	if err != nil {
		t.Error(err)
		return
	}
	seen := make(chan struct{})
	held.mu.Lock()
	held.seen[id] = seen
	held.mu.Unlock()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), doomedSession+"="+id.String(), doomedUser+"="+w.users[0], doomedRedis+"="+redis,
		doomedPostgres+"="+w.pool.Config().ConnString(), doomedEpoch+"="+w.epoch)
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	select {
	case <-seen:
	case <-time.After(5 * time.Minute):
		t.Errorf("no delete came: %s", out.String())
	}
	before()
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if out.Len() > 0 {
		t.Errorf("the node was answered before it was killed: %s", out.String())
	}
}

// A node dies between the commit of a send and the delete of the sender's key: the feeds of others know the sender.
func TestADeadNodesSendsAreFound(t *testing.T) {
	url, epoch := testenv.Redis(t)
	w := newWorld(t, epoch, 1, 1)
	live := w.node(t, url, options{feed: true})
	w.exec(t, `INSERT INTO user_to_device (user_id, device_id, created_at) VALUES ($1, 'd', now())`, w.users[0])
	w.texts(t, w.sessions[0])
	require.Zero(t, live.read(t, w.users[0], w.sessions...)[w.sessions[0]].ReadSeq)

	out, err := storage.NewMessages(w.truth.DB).Append(t.Context(), []message.Draft{{SessionID: w.sessions[0], MessageID: uuid.New(),
		SenderID: w.users[0], SenderDevice: "d", Type: message.TypeText, Body: []byte{}, Digest: 1}}, time.Unix(1, 0))
	require.NoError(t, err)
	require.NoError(t, out[0].Err)
	require.Eventually(t, func() bool {
		return live.read(t, w.users[0], w.sessions...)[w.sessions[0]].ReadSeq == out[0].Receipt.Seq
	}, time.Minute, 5*time.Millisecond)
}
