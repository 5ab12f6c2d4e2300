package storage_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/wire"
)

// memoryLog is the truth that the tiers are held against.
type memoryLog struct {
	mu    sync.Mutex
	logs  map[uuid.UUID][]message.Entry
	reads int
}

func (m *memoryLog) ListRanges(_ context.Context, ranges []message.Range) ([][]message.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	out := make([][]message.Entry, len(ranges))
	for i, r := range ranges {
		out[i] = append([]message.Entry(nil), m.logs[r.SessionID][r.From:r.To]...)
	}
	return out, nil
}

func (m *memoryLog) commit(id uuid.UUID, c *parleyv1.Content, typ message.Type) message.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(&parleyv1.Message{Content: c})
	if err != nil {
		panic(err)
	}
	e := message.Entry{SessionID: id, Seq: int64(len(m.logs[id])) + 1, MessageID: uuid.New(), SenderID: "alice", Type: typ,
		Body: body, CreatedAt: time.Unix(int64(len(m.logs[id])), 0).UTC()}
	m.logs[id] = append(m.logs[id], e)
	if r := c.GetRecall(); r != nil {
		m.logs[id][r.GetSeq()-1] = m.logs[id][r.GetSeq()-1].Erased()
	}
	return e
}

func words(s string) *parleyv1.Content {
	return &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: s}}}
}

type noHub struct{}

func (noHub) Publish([]*wire.Entry)              {}
func (noHub) DirectStarted(uuid.UUID, [2]string) {}

type tiers struct {
	log    *memoryLog
	client redis.UniversalClient
	ring   *ring.Ring
	keeper *offline.Keeper
	reader *offline.Reader
	pub    *offline.Publisher
	reg    *prometheus.Registry
	said   *lines // by a cluster's client
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// leftAlone is how often the client said that it leaves this server alone.
func (l *lines) leftAlone(addr string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, "left alone") && strings.Contains(line, "server="+addr) {
			n++
		}
	}
	return n
}

func newTiers(t testing.TB, url string, ringBytes int64) *tiers {
	client, err := storage.OpenRedis(url)
	require.NoError(t, err)
	w := &tiers{log: &memoryLog{logs: map[uuid.UUID][]message.Entry{}}, client: client, reg: prometheus.NewRegistry(), said: &lines{}}
	if cluster, ok := client.(*storage.Cluster); ok {
		cluster.Tell(slog.New(slog.NewTextHandler(w.said, nil)))
	}
	cache := storage.NewOfflineCache(client, func() string { return "e1" }, 200, time.Hour)
	log := slog.New(slog.DiscardHandler)
	w.ring = ring.New(ringBytes, nil)
	w.keeper = offline.NewKeeper(cache, clockwork.NewRealClock(), log, w.reg)
	w.keeper.GatherFor = 0 // what is published is to be in Redis soon
	w.reader = offline.NewReader(w.ring, w.keeper, w.log, w.reg)
	w.pub = &offline.Publisher{Ring: w.ring, Hub: noHub{}, Keeper: w.keeper}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.keeper.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done; _ = client.Close() })
	return w
}

// served is how many entries a tier has served.
func (w *tiers) served(t testing.TB, tier string) (n float64) {
	families, err := w.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "parley_read_entries_total" {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == tier {
					n = m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

func (w *tiers) up(t testing.TB) bool {
	families, err := w.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "parley_cache_up" {
			return f.GetMetric()[0].GetGauge().GetValue() == 1
		}
	}
	return false
}

// check reads a range and holds it against the log.
func (w *tiers) check(t require.TestingT, id uuid.UUID, from, to int64) {
	got, err := w.reader.Read(context.Background(), []message.Range{{SessionID: id, From: from, To: to}})
	require.NoError(t, err)
	require.Len(t, got[0], int(to-from))
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for i, e := range got[0] {
		want := w.log.logs[id][from+int64(i)]
		require.True(t, proto.Equal(wire.Message(want), wire.Message(e.Entry)), "want %v\ngot  %v", want, e.Entry)
	}
}

// Redis is damaged in every way, again and again: no reader ever sees a hole, a foreign entry, or a recalled body.
func TestTiersNeverLieWhateverHappensToRedis(t *testing.T) {
	url, _ := testenv.Redis(t)
	for _, ringBytes := range []int64{0, 5_000} {
		damageAndRead(t, newTiers(t, url, ringBytes), uint64(ringBytes)) //nolint:gosec // not negative
	}
}

// damageAndRead sends, recalls, damages Redis and reads in random order, and holds what is read against the log.
func damageAndRead(t *testing.T, w *tiers, seed uint64) {
	rnd := rand.New(rand.NewPCG(11, seed)) //nolint:gosec // a test
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	steps := 1500
	if testing.Short() {
		steps = 300
	}
	// On a busy machine Redis may be left alone for as long as all the steps take: then more of them.
	end := time.Now().Add(time.Minute)
	for n := 0; n < steps || w.served(t, "redis") == 0 && time.Now().Before(end); n++ {
		id := ids[rnd.IntN(len(ids))]
		head := int64(len(w.log.logs[id]))
		set := "offline:{" + id.String() + "}:e1"
		ctx := context.Background()
		switch rnd.IntN(14) {
		case 0, 1, 2, 3, 4:
			w.pub.Publish([]message.Entry{w.log.commit(id, words(fmt.Sprint("m", head)), message.TypeText)})
		case 5:
			if head > 0 {
				seq := rnd.Int64N(head) + 1
				w.log.mu.Lock()
				countable := w.log.logs[id][seq-1].Type == message.TypeText && !w.log.logs[id][seq-1].IsDeleted
				w.log.mu.Unlock()
				if countable {
					w.pub.Publish([]message.Entry{w.log.commit(id, &parleyv1.Content{Kind: &parleyv1.Content_Recall{
						Recall: &parleyv1.Recall{Seq: seq}}}, message.TypeRecall)})
				}
			}
		case 6:
			w.client.Del(ctx, set)
		case 7: // front, middle or tail
			at := []int64{0, head / 2, -1}[rnd.IntN(3)]
			w.client.ZRemRangeByRank(ctx, set, at, at)
		case 8:
			if chunks, err := w.client.ZRangeWithScores(ctx, set, 0, -1).Result(); err == nil && len(chunks) > 0 {
				c := chunks[rnd.IntN(len(chunks))]
				chunk, _ := c.Member.(string)
				switch rnd.IntN(4) {
				case 0: // twice, at another place
					c.Score = float64(rnd.Int64N(head) + 1)
				case 1:
					c.Member = chunk[:rnd.IntN(len(chunk))]
				case 2:
					b := []byte(chunk)
					b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
					c.Member = string(b)
				default: // another session's
					w.client.ZAdd(ctx, "offline:{"+ids[rnd.IntN(len(ids))].String()+"}:e1", c)
				}
				w.client.ZAdd(ctx, set, c)
				if rnd.IntN(2) == 0 && c.Member != chunk {
					w.client.ZRem(ctx, set, chunk)
				}
			}
		case 9:
			w.client.ZAdd(ctx, set, redis.Z{Score: float64(rnd.Int64N(head + 2)), Member: uuid.NewString()})
		case 10: // committed by another node
			w.log.commit(id, words("elsewhere"), message.TypeText)
			w.ring.Behind(id, head+1)
		default:
			if head > 0 {
				from := max(0, head-1-rnd.Int64N(40))
				w.check(t, id, from, head)
			}
		}
	}
	require.Positive(t, w.served(t, "redis"), "redis has served nothing: the test tests nothing")
	require.Positive(t, w.served(t, "postgres"))
}

// A group that all come back to at once costs one reading, not one per device.
func TestHerdSharesOneReading(t *testing.T) {
	url, _ := testenv.Redis(t)
	w := newTiers(t, url, 1<<20)
	id := uuid.New()
	for range 100 {
		w.log.commit(id, words("x"), message.TypeText)
	}
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() { w.check(t, id, 0, 100) })
	}
	wg.Wait()
	require.LessOrEqual(t, w.log.reads, 2)
}

// Redis killed, muted, full, read-only: everything is read and committed all the same, and Redis serves again by itself.
func TestTiersWithoutRedis(t *testing.T) {
	rd := testenv.OwnRedis(t, map[string]string{"maxmemory": "20mb", "maxmemory-policy": "noeviction"})
	w := newTiers(t, rd.URL(), 0)
	same, err := storage.OpenRedis(rd.URL())
	require.NoError(t, err)
	calm := testenv.Patient(t, same)
	id := uuid.New()
	send := func() {
		w.pub.Publish([]message.Entry{w.log.commit(id, words("x"), message.TypeText)})
	}
	read := func() {
		head := int64(len(w.log.logs[id]))
		w.check(t, id, max(0, head-50), head)
	}
	back := func() {
		t.Helper()
		before := w.served(t, "redis")
		require.Eventually(t, func() bool { send(); read(); return w.served(t, "redis") > before && w.up(t) }, patience,
			20*time.Millisecond, "redis does not serve again")
	}
	back()
	faults := []struct {
		name     string
		do, undo func()
	}{
		{"killed", func() { require.NoError(t, rd.Kill()) }, func() { require.NoError(t, rd.Restart(t.Context())) }},
		{"muted", func() { require.NoError(t, rd.Pause()) }, func() { require.NoError(t, rd.Resume()) }},
		{"flushed", func() { require.NoError(t, calm.FlushAll(t.Context()).Err()) }, func() {}},
		{"full", func() {
			for i := 0; calm.Set(t.Context(), fmt.Sprint("ballast", i), strings.Repeat("x", 1<<20), 0).Err() == nil; i++ {
				require.Less(t, i, 100)
			}
		}, func() { require.NoError(t, calm.FlushAll(t.Context()).Err()) }},
	}
	for _, f := range faults {
		f.do()
		for range 20 {
			send()
			read()
		}
		f.undo()
		back()
	}
}
