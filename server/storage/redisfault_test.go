package storage_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/wire"
)

// shelf is the Redis tier by itself, with one session of a few entries.
type shelf struct {
	t       testing.TB
	client  redis.UniversalClient
	cache   *storage.OfflineCache
	id      uuid.UUID
	entries []*wire.Entry
}

// newShelf returns a shelf that waits for Redis as long as a busy machine needs.
func newShelf(t testing.TB, url string, n int) *shelf {
	client, err := storage.OpenRedis(url)
	require.NoError(t, err)
	if _, ok := client.(*storage.Cluster); ok {
		t.Cleanup(func() { _ = client.Close() })
	} else {
		client = testenv.Patient(t, client)
	}
	return newShelfOf(t, client, n)
}

func newShelfOf(t testing.TB, client redis.UniversalClient, n int) *shelf {
	s := &shelf{t: t, client: client, id: uuid.New(),
		cache: storage.NewOfflineCache(client, func() string { return "e" }, 500, time.Hour)}
	log := &memoryLog{logs: map[uuid.UUID][]message.Entry{}}
	for i := range n {
		s.entries = append(s.entries, wire.Encode(log.commit(s.id, words(fmt.Sprint("m", i)), message.TypeText)))
	}
	return s
}

func (s *shelf) append(lease string, from, to int) error {
	return inTime(func() error {
		return s.cache.Append(context.Background(), []offline.Batch{{Lease: lease, Entries: s.entries[from:to]}})
	})
}

// inTime appends, again where that took so long that the append may have come too late to have an effect; and once more
// after that, since the adapter believes that the server's clock shows what it showed when such an answer was given.
func inTime(add func() error) error {
	for late := false; ; {
		began := time.Now()
		err, slow := add(), time.Since(began) >= offline.AppendLateness/4
		if err != nil || !slow && !late {
			return err
		}
		late = slow
	}
}

// read returns how many entries of the range are there (all or none), and the lease to repair it.
func (s *shelf) read(from, to int64) (int, string) {
	got, err := s.cache.Read(context.Background(), []message.Range{{SessionID: s.id, From: from, To: to}})
	require.NoError(s.t, err)
	return len(got[0].Entries), got[0].Lease
}

func (s *shelf) drop() error { return s.cache.Drop(context.Background(), []uuid.UUID{s.id}) }

func (s *shelf) held() (n int64) {
	for _, k := range []string{"offline:", "lease:"} {
		one, err := s.client.Exists(context.Background(), k+"{"+s.id.String()+"}:e").Result()
		require.NoError(s.t, err)
		n += one
	}
	return n
}

// A lease is good for one repair of what was missing, and void after a recall, whatever Redis lost in between.
func TestLeaseIsVoidAfterDrop(t *testing.T) {
	url, _ := testenv.Redis(t)
	s := newShelf(t, url, 10)
	n, lease := s.read(0, 10)
	require.Zero(t, n)
	require.NotEmpty(t, lease)
	require.NoError(t, s.append(lease, 0, 10))
	n, none := s.read(0, 10)
	require.Equal(t, 10, n)
	require.Empty(t, none, "what is whole needs no repair")

	require.NoError(t, s.drop())
	require.NoError(t, s.append(lease, 0, 10))
	require.Zero(t, s.held(), "a lease of before was good after a recall")
	_, fresh := s.read(0, 10)
	require.NotEqual(t, lease, fresh)
	require.NoError(t, s.drop())
	require.NoError(t, s.drop())
	_, again := s.read(0, 10)
	require.NotEqual(t, fresh, again, "a lease came back")
	require.NoError(t, s.append(fresh, 0, 10))
	n, _ = s.read(0, 10)
	require.Zero(t, n)
	require.NoError(t, s.drop())
}

// Clearing takes all sessions of the log's life and voids all leases, and leaves alone whatever else is there.
func TestClearTakesAllSessionsOfTheLife(t *testing.T) {
	checkClear(t, testenv.OwnRedis(t, nil).URL())
}

func checkClear(t *testing.T, url string) {
	t.Helper()
	former := newShelf(t, url, 3)
	require.NoError(t, former.append("", 0, 3))
	var shelves []*shelf
	for n := range 200 {
		s := newShelf(t, url, 3)
		s.cache = storage.NewOfflineCache(s.client, func() string { return "e:later" }, 500, time.Hour)
		shelves = append(shelves, s)
		if n%2 == 0 {
			require.NoError(t, s.append("", 0, 3))
		}
	}
	_, lease := shelves[1].read(0, 3)
	require.NotEmpty(t, lease)
	require.NoError(t, former.client.Set(t.Context(), "other:{x}:e:later", "kept", 0).Err())
	require.NoError(t, shelves[0].cache.Clear(t.Context()))
	require.NoError(t, shelves[1].append(lease, 0, 3))
	for _, s := range shelves {
		n, _ := s.read(0, 3)
		require.Zero(t, n)
	}
	n, _ := former.read(0, 3)
	require.Equal(t, 3, n, "of another life")
	require.Equal(t, "kept", former.client.Get(t.Context(), "other:{x}:e:later").Val())
}

// Many batches are appended in parts, all of them.
func TestManyBatchesAreAppendedInParts(t *testing.T) {
	url, _ := testenv.Redis(t)
	shelves := make([]*shelf, 40)
	for i := range shelves {
		shelves[i] = newShelf(t, url, 300)
	}
	var batches []offline.Batch
	for from := 0; from < 300; from += 50 {
		for _, s := range shelves {
			batches = append(batches, offline.Batch{Entries: s.entries[from : from+50]})
		}
	}
	require.NoError(t, inTime(func() error { return shelves[0].cache.Append(t.Context(), batches) }))
	for _, s := range shelves {
		n, _ := s.read(0, 300)
		require.Equal(t, 300, n)
		require.NoError(t, s.drop())
	}
}

// What others put into the set is passed over, and gone with the next repair.
func TestRepairHealsForeignMembers(t *testing.T) {
	url, _ := testenv.Redis(t)
	s := newShelf(t, url, 10)
	key := "offline:{" + s.id.String() + "}:e"
	require.NoError(t, s.append("", 0, 5))
	require.NoError(t, s.client.ZAdd(t.Context(), key, redis.Z{Score: 4, Member: "x"}, redis.Z{Score: 10, Member: "y"}).Err())
	n, _ := s.read(0, 5)
	require.Equal(t, 5, n)
	n, lease := s.read(0, 10)
	require.Zero(t, n)
	require.NoError(t, s.append(lease, 0, 10))
	n, _ = s.read(0, 10)
	require.Equal(t, 10, n)
	there, err := s.client.ZCard(t.Context(), key).Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, there)
	require.NoError(t, s.drop())
}

// A chunk that is not as it was written is reported: the session is to be forgotten.
func TestDamagedChunkIsBroken(t *testing.T) {
	url, _ := testenv.Redis(t)
	s := newShelf(t, url, 10)
	key := "offline:{" + s.id.String() + "}:e"
	require.NoError(t, s.append("", 0, 10))
	chunks, err := s.client.ZRange(t.Context(), key, 0, -1).Result()
	require.NoError(t, err)
	damaged := []byte(chunks[0])
	damaged[len(damaged)-1] ^= 1
	require.NoError(t, s.client.ZRem(t.Context(), key, chunks[0]).Err())
	require.NoError(t, s.client.ZAdd(t.Context(), key, redis.Z{Score: 10, Member: damaged}).Err())
	broken := func() bool {
		got, err := s.cache.Read(t.Context(), []message.Range{{SessionID: s.id, From: 0, To: 10}})
		require.NoError(t, err)
		require.Empty(t, got[0].Entries)
		return got[0].Broken
	}
	require.True(t, broken())
	require.NoError(t, s.drop())
	require.False(t, broken())
	require.NoError(t, s.client.Set(t.Context(), key, "no set", 0).Err())
	require.True(t, broken())
	require.NoError(t, s.drop())
}

// A server that refuses the transaction, or a part of it, is read by a script.
func TestReadsWithoutTransactions(t *testing.T) {
	for _, refused := range []string{"-multi", "-exec", "-info", "-zrangebyscore"} {
		t.Run(refused, func(t *testing.T) {
			own := testenv.OwnRedis(t, nil)
			s := newShelf(t, own.URL(), 10)
			require.NoError(t, s.append("", 0, 5))
			require.NoError(t, s.client.Do(t.Context(), "ACL", "SETUSER", "default", refused).Err())
			got, err := s.cache.Read(t.Context(), []message.Range{{SessionID: s.id, From: 0, To: 5}})
			if refused == "-zrangebyscore" { // scripts need it too
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			if refused == "-info" { // another life, as far as can be told
				require.Empty(t, got[0].Entries)
				require.NoError(t, s.append(got[0].Lease, 0, 5))
			}
			for range 2 {
				n, _ := s.read(0, 5)
				require.Equal(t, 5, n)
			}
			_, lease := s.read(0, 10)
			require.NoError(t, s.append(lease, 0, 10))
			n, _ := s.read(3, 8)
			require.Equal(t, 5, n)
		})
	}
}

// What was evicted is missing until it is repaired, whatever was appended since.
func TestEvictedSetIsMissed(t *testing.T) {
	url, _ := testenv.Redis(t)
	s := newShelf(t, url, 10)
	require.NoError(t, s.append("", 0, 9))
	require.NoError(t, s.client.Del(t.Context(), "offline:{"+s.id.String()+"}:e").Err())
	require.NoError(t, s.append("", 9, 10))
	n, lease := s.read(0, 10)
	require.Zero(t, n)
	n, _ = s.read(9, 10)
	require.Equal(t, 1, n)
	require.NoError(t, s.append(lease, 0, 10))
	n, _ = s.read(0, 10)
	require.Equal(t, 10, n)
	require.NoError(t, s.drop())
}

// Forgetting works where nothing can be added.
func TestDropWorksOnAFullRedis(t *testing.T) {
	own := testenv.OwnRedis(t, map[string]string{"maxmemory": "8mb", "maxmemory-policy": "noeviction"})
	s := newShelf(t, own.URL(), 10)
	require.NoError(t, s.append("", 0, 10))
	for size := 1 << 20; size > 10; {
		if s.client.Set(t.Context(), uuid.NewString(), strings.Repeat("x", size), 0).Err() != nil {
			size /= 8
		}
	}
	require.ErrorContains(t, s.append("", 0, 10), "OOM")
	require.Error(t, s.cache.Ping(t.Context()), "a full Redis counts as there")
	n, _ := s.read(0, 10)
	require.Equal(t, 10, n, "what is there can be read")
	require.NoError(t, s.drop())
	require.Zero(t, s.held())
}

// A server that comes back from a snapshot on disk holds what was recalled since: nothing of it is looked at.
func TestFormerLifeOfRedisIsNotBelieved(t *testing.T) {
	own := testenv.OwnRedis(t, nil)
	s := newShelf(t, own.URL(), 10)
	require.NoError(t, s.append("", 0, 9))
	_, lease := s.read(0, 10)
	require.NoError(t, s.client.Save(t.Context()).Err())
	require.NoError(t, s.drop())
	require.NoError(t, own.Kill())
	require.NoError(t, own.Restart(t.Context()))
	require.Eventually(t, func() bool { return s.cache.Ping(context.Background()) == nil }, time.Minute, 10*time.Millisecond)
	require.EqualValues(t, 2, s.held(), "the snapshot was not loaded: the test tests nothing")
	n, fresh := s.read(0, 9)
	require.Zero(t, n, "a former life was believed")
	require.NotEqual(t, lease, fresh)
	require.NoError(t, s.append(lease, 0, 9))
	n, _ = s.read(0, 9)
	require.Zero(t, n, "a lease of a former life was good")
	require.NoError(t, s.append("", 9, 10))
	n, _ = s.read(9, 10)
	require.Equal(t, 1, n)
	n, _ = s.read(8, 10)
	require.Zero(t, n, "entries of two lives were joined")
}

// An append that was given up and arrives after the session was forgotten has no effect.
func TestLateAppendHasNoEffect(t *testing.T) {
	own := testenv.OwnRedis(t, nil)
	link, url := testenv.NewLinkTo(t, own.TCPURL())
	client, err := storage.OpenRedis(url) // which gives up
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	s := newShelfOf(t, client, 10)
	direct := newShelf(t, own.URL(), 0)
	direct.id = s.id
	taken := func(from, to int) {
		require.Eventually(t, func() bool { return s.append("", from, to) == nil }, patience, 10*time.Millisecond)
	}
	taken(0, 5)
	require.NoError(t, direct.drop())
	link.Mute()
	for range 3 { // on a busy machine one may be given up before it is sent
		require.Error(t, s.append("", 5, 10))
	}
	time.Sleep(offline.AppendLateness)
	before := calls(t, direct.client)
	link.Heal()
	require.Eventually(t, func() bool { return calls(t, direct.client) > before }, patience, 10*time.Millisecond,
		"it never arrived: the test tests nothing")
	require.Zero(t, direct.held())
	taken(0, 10) // and is taken
	n, _ := direct.read(0, 10)
	require.Equal(t, 10, n)
}

// calls is how many scripts a server has run.
func calls(t *testing.T, c redis.UniversalClient) (n int) {
	stats, err := c.InfoMap(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	for _, name := range []string{"cmdstat_evalsha", "cmdstat_eval"} {
		var one int
		if line := stats["Commandstats"][name]; line != "" {
			_, err := fmt.Sscanf(line, "calls=%d", &one)
			require.NoError(t, err)
		}
		n += one
	}
	return n
}

// The stand-in of `parley run` takes the scripts as well.
func TestStandInServesTheTier(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("PARLEY_REDIS_BIN", "")
	r, err := dev.StartRedis(t.Context(), dev.RedisOptions{DataDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Stop(context.Background()) })
	require.Equal(t, dev.KindInProcess, r.Kind())
	s := newShelf(t, r.URL(), 10)
	require.NoError(t, s.cache.Ping(t.Context()))
	_, lease := s.read(0, 10)
	require.NoError(t, s.append(lease, 0, 10))
	n, _ := s.read(0, 10)
	require.Equal(t, 10, n)
	require.NoError(t, s.drop())
	require.NoError(t, s.append(lease, 0, 10))
	require.Zero(t, s.held())
}
