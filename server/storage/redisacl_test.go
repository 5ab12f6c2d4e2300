package storage_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/hints"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/presence"
	"github.com/parley-im/parley/server/rate"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
	"github.com/parley-im/parley/server/storage"
)

// documentedLogin returns the command by which docs/operations.md makes Parley's login, and the login with its password.
func documentedLogin(t *testing.T) (command []any, login string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "ACL SETUSER parley ") {
			for _, word := range strings.Fields(line) {
				command = append(command, word)
				if strings.HasPrefix(word, ">") {
					login = "parley:" + word[1:]
				}
			}
		}
	}
	require.NotEmpty(t, login, "the page has no such command any more")
	return command, login
}

// The login that docs/operations.md makes may do all that Parley does, and what Parley never does it may not.
func TestTheDocumentedLoginIsEnough(t *testing.T) {
	t.Parallel()
	command, login := documentedLogin(t)
	for name, start := range map[string]func(t *testing.T) (url string, servers []string){
		"one server": func(t *testing.T) (string, []string) {
			url := testenv.OwnRedis(t, nil).TCPURL()
			root, place, _ := strings.Cut(url, "@")
			return strings.Replace(url, root, "redis://"+login, 1), []string{root + "@" + place}
		},
		"cluster": func(t *testing.T) (string, []string) {
			g := testenv.RedisCluster(t)
			var servers []string
			for _, p := range g.Servers {
				servers = append(servers, "redis://@"+p.Addr())
			}
			return strings.Replace(g.URL, "://", "://"+login+"@", 1), servers
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, servers := start(t)
			open := func(url string) redis.UniversalClient {
				client, err := storage.OpenRedis(url)
				require.NoError(t, err)
				return testenv.Patient(t, client)
			}
			var roots []redis.UniversalClient
			for _, s := range servers {
				roots = append(roots, open(s))
				require.NoError(t, roots[len(roots)-1].Do(t.Context(), command...).Err())
			}
			results := useRedis(t, url)
			for _, root := range roots {
				refused, err := root.ACLLog(t.Context(), 100).Result()
				require.NoError(t, err)
				for _, r := range refused {
					t.Errorf("refused: %s %s %s", r.Reason, r.Context, r.Object)
				}
			}
			for _, r := range results {
				require.NoError(t, r.err, r.name)
			}
			_, place, _ := strings.Cut(servers[0], "@")
			one := open("redis://" + login + "@" + place)
			for _, c := range [][]any{{"GET", "somebody-elses"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"}, {"KEYS", "*"}, {"SPUBLISH", "else", "x"}} {
				require.ErrorContains(t, one.Do(t.Context(), c...).Err(), "NOPERM", c)
			}
		})
	}
}

// used is a thing that Parley does with Redis, and what came of it in the end.
type used struct {
	name string
	err  error
}

// useRedis does each thing that Parley does with Redis, again for a while where it fails: Redis may be slow.
func useRedis(t *testing.T, url string) (all []used) {
	t.Helper()
	client, err := storage.OpenRedis(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	life := func() string { return "e" }
	do := func(name string, f func() error) {
		var err error
		for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
			if err = f(); err == nil || strings.Contains(err.Error(), "NOPERM") {
				break
			}
		}
		all = append(all, used{name, err})
	}
	a := &appending{client: client, log: &memoryLog{logs: map[uuid.UUID][]message.Entry{}},
		cache: storage.NewOfflineCache(client, life, 3000, time.Hour)}
	do("probe", func() error { return a.cache.Ping(t.Context()) })
	for range 5 {
		id := uuid.New()
		lease := ""
		do("lease", func() error {
			got, err := a.cache.Read(t.Context(), []message.Range{{SessionID: id, From: 0, To: 3}})
			if err == nil {
				lease = got[0].Lease
			}
			return err
		})
		b := a.next(id, 3)
		b.Lease = lease
		do("repair", func() error { return a.cache.Append(t.Context(), []offline.Batch{b}) })
		b = a.next(id, 3)
		do("append", func() error { return a.cache.Append(t.Context(), []offline.Batch{b}) })
		do("read", func() error {
			_, err := a.cache.Read(t.Context(), []message.Range{{SessionID: id, From: 0, To: 6}})
			return err
		})
		do("drop", func() error { return a.cache.Drop(t.Context(), []uuid.UUID{id}) })
		b = a.next(id, 3)
		do("append", func() error { return a.cache.Append(t.Context(), []offline.Batch{b}) })

		states, key := storage.NewStateCache(client, life, time.Minute, time.Hour), state.Key{UserID: "alice", SessionID: id}
		get := func() error {
			_, err := states.Get(t.Context(), []statecache.Ask{{Key: key, Lease: "l"}}, time.Minute)
			return err
		}
		do("state lease", get)
		do("state fill", func() error {
			_, err := states.Fill(t.Context(), []statecache.Fill{{Key: key, Lease: "l", Value: "v"}})
			return err
		})
		do("state get", get)
		do("state forget", func() error { return states.Forget(t.Context(), []state.Key{key}) })

		board := storage.NewRateBoard(client, life)
		for _, amount := range []time.Duration{time.Minute, -time.Hour} {
			do("rate", func() error {
				_, err := board.Charge(t.Context(), []rate.Charge{{Key: rate.Key{Rule: rate.CallsDevice, A: id.String(), B: "d"}, Amount: amount, Window: time.Hour}})
				return err
			})
		}
		present := storage.NewPresenceBoard(client, life)
		for _, online := range []bool{true, false} {
			do("presence put", func() error {
				return present.Put(t.Context(), "n", []presence.Change{{UserID: id.String(), DeviceID: "d", Online: online}})
			})
			do("presence get", func() error {
				_, err := present.Get(t.Context(), []string{id.String()})
				return err
			})
		}
	}
	do("clear", func() error { return a.cache.Clear(t.Context()) })
	do("hear", func() error { return hear(t, storage.NewHintBus(client)) })
	return all
}

// hear hears a hint on a connection that asked not to hear another channel any more.
func hear(t *testing.T, bus *storage.HintBus) error {
	t.Helper()
	sub := bus.Open(t.Context())
	defer func() { _ = sub.Close() }()
	former, channel := "hint:{0}:former", hints.Channel{Name: "hint:{0}:channel"}
	for _, err := range []error{sub.Subscribe(t.Context(), []string{former}), sub.Unsubscribe(t.Context(), []string{former}),
		sub.Subscribe(t.Context(), []string{channel.Name})} {
		if err != nil {
			return err
		}
	}
	heard := make(chan error, 1)
	go func() {
		_, err := sub.Receive(t.Context())
		heard <- err
	}()
	for deadline := time.After(time.Minute); ; {
		if err := bus.Publish(t.Context(), []hints.Outgoing{{Channel: channel, Payload: []byte("x")}}); err != nil {
			return err
		}
		select {
		case err := <-heard:
			return err
		case <-deadline:
			return errors.New("nothing was heard")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
