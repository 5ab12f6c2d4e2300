package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// returning is a node with devices that were away: users u0, u1, ... with a device d each, in sessions with unread
// messages. Rows are made by SQL.
type returning struct {
	*App
	t     testing.TB
	sql   *pgxpool.Pool // of the test's own, not counted
	pg    *statements
	redis *trips
	keys  redis.UniversalClient // another client of the same Redis, which waits for it and is not counted; nil without one
	stop  context.CancelFunc
	done  chan error

	tokens []string     // of users; over HTTP only
	key    auth.KeyMark // of a token: a stream whose key does not count is ended
	way    func(ctx context.Context, user int) (int, error)
}

type returningSetup struct {
	users, sessions, unread int
	shared                  bool // all users are in the same sessions; else each has sessions of their own
	noRedis                 bool
	ringBytes               int64
}

func newReturning(t testing.TB, s returningSetup) *returning {
	url := testenv.PostgresURL(t)
	w := &returning{t: t, redis: &trips{}, done: make(chan error, 1)}
	var err error
	w.sql, err = pgxpool.New(context.Background(), url)
	require.NoError(t, err)
	t.Cleanup(w.sql.Close)
	w.seed(s)
	cfg := Default()
	cfg.Listen, cfg.AdminListen, cfg.DrainGrace = "127.0.0.1:0", "", 0
	w.pg, cfg.Postgres.URL = countStatements(t, url)
	cfg.Auth.AdminKey = strings.Repeat("k", 32)
	cfg.Auth.SigningKey = filepath.Join(t.TempDir(), "signing.pem")
	cfg.Cache.RingBytes = s.ringBytes
	if !s.noRedis {
		cfg.Redis.URL = testenv.OwnRedis(t, nil).URL()
		same, err := storage.OpenRedis(cfg.Redis.URL)
		require.NoError(t, err)
		w.keys = testenv.Patient(t, same)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	w.App, err = New(ctx, cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	if w.App.redis != nil {
		w.App.redis.AddHook(w.redis)
	}
	signer, err := auth.LoadOrCreateSigner(cfg.Auth.SigningKey, auth.SignerConfig{Issuer: ownIssuer, Audience: cfg.Auth.Audience})
	require.NoError(t, err)
	token, _, err := signer.Mint("u0", "d", time.Hour)
	require.NoError(t, err)
	who, err := w.App.verifier.Verify(ctx, token)
	require.NoError(t, err)
	w.key = who.Key
	w.App.keeper.GatherFor = 0 // what is written behind is soon written
	go func() { w.done <- w.Run(ctx) }()
	t.Cleanup(w.close)
	require.Eventually(t, func() bool { _, fresh := w.roster.Sessions("u0"); return fresh }, 2*time.Minute, time.Millisecond)
	return w
}

// settled waits until nothing is written to Redis behind, and forgets all counts.
func (w *returning) settled() {
	for quiet := 0; quiet < 4; quiet++ {
		time.Sleep(50 * time.Millisecond) // there is no event to wait for: the keeper has nothing to tell anybody
		if w.redis.take().round > 0 {
			quiet = 0
		}
	}
	w.pg.take()
}

// close takes the node down and waits for its end; it may be called more than once.
func (w *returning) close() {
	w.stop()
	if w.done != nil {
		require.NoError(w.t, <-w.done)
		w.done = nil
	}
}

func (w *returning) exec(sql string, args ...any) {
	_, err := w.sql.Exec(context.Background(), sql, args...)
	require.NoError(w.t, err)
}

// seed makes the rows. The sessions' messages are by somebody else.
func (w *returning) seed(s returningSetup) {
	body, err := proto.Marshal(&parleyv1.Message{Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{
		Text: &parleyv1.Text{Body: strings.Repeat("x", 100)}}}})
	require.NoError(w.t, err)
	owners := s.users
	if s.shared {
		owners = 1
	}
	const id = "(lpad(%s::text, 8, '0') || '-0000-4000-8000-' || lpad(%s::text, 12, '0'))::uuid"
	sid := func(owner, session string) string { return fmt.Sprintf(id, owner, session) }
	owner := "u"
	if s.shared {
		owner = "0"
	}
	w.exec("INSERT INTO app_user (user_id, created_at) SELECT 'u' || u, now() FROM generate_series(0, $1::int - 1) u UNION ALL SELECT 'sender', now()", s.users)
	w.exec("INSERT INTO user_to_device (user_id, device_id, created_at, synced_at) SELECT 'u' || u, 'd', now(), now() FROM generate_series(0, $1::int - 1) u", s.users)
	w.exec(`INSERT INTO session (session_id, kind, owner_id, title, member_count, last_seq, countable_total, created_at)
		SELECT `+sid("o", "n")+`, 2, 'sender', 't', 2, $3, $3, now() FROM generate_series(0, $1::int - 1) o, generate_series(0, $2::int - 1) n`, owners, s.sessions, s.unread)
	w.exec(`INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
		SELECT 'u' || u, `+sid(owner, "n")+`, 1, 1, 1 FROM generate_series(0, $1::int - 1) u, generate_series(0, $2::int - 1) n`, s.users, s.sessions)
	w.exec(`INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
		SELECT `+sid("o", "n")+`, q, gen_random_uuid(), 'sender', 'd', 1, $4, 0, q, now()
		FROM generate_series(0, $1::int - 1) o, generate_series(0, $2::int - 1) n, generate_series(1, $3::int) q`, owners, s.sessions, s.unread, body)
	w.exec(`INSERT INTO device_cursor (user_id, device_id, session_id, acked_seq)
		SELECT user_id, 'd', session_id, 0 FROM user_to_session`)
	w.exec("ANALYZE")
}

// back runs the stream of u<user>'s device into a sink that keeps nothing, until it has caught up, and returns how many
// entries came.
func (w *returning) back(ctx context.Context, user int) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sink := &discard{caughtUp: cancel}
	err := w.streams.Serve(ctx, stream.Caller{UserID: fmt.Sprintf("u%d", user), DeviceID: "d", Key: w.key}, stream.Request{}, sink)
	if sink.done {
		err = nil
	}
	return sink.entries, err
}

// backOverHTTP does the same over a connection of its own, by the Connect protocol.
func (w *returning) backOverHTTP(ctx context.Context, user int) (int, error) {
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.Addr()+parleyv1connect.SyncServiceSubscribeProcedure,
		bytes.NewReader(make([]byte, 5))) // an empty message in its envelope
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/connect+proto")
	req.Header.Set("Authorization", "Bearer "+w.tokens[user])
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	in, sink := bufio.NewReaderSize(res.Body, 64<<10), &discard{}
	var head [5]byte
	var buf []byte
	for !sink.done {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return 0, err
		}
		buf = slices.Grow(buf[:0], int(binary.BigEndian.Uint32(head[1:])))[:binary.BigEndian.Uint32(head[1:])]
		if _, err := io.ReadFull(in, buf); err != nil {
			return 0, err
		}
		if head[0] != 0 {
			return 0, fmt.Errorf("the stream ended: %s", buf)
		}
		if err := sink.scan(buf); err != nil {
			return 0, err
		}
	}
	return sink.entries, nil
}

// overHTTP makes allBack use connections from now on.
func (w *returning) overHTTP(users int) {
	admin := parleyv1connect.NewAdminServiceClient(http.DefaultClient, "http://"+w.Addr())
	for i := range users {
		ctx, info := connect.NewClientContext(context.Background())
		info.RequestHeader().Set("Authorization", "Bearer "+w.cfg.Auth.AdminKey)
		res, err := admin.CreateToken(ctx, &parleyv1.CreateTokenRequest{UserId: fmt.Sprintf("u%d", i), DeviceId: "d"})
		require.NoError(w.t, err)
		w.tokens = append(w.tokens, res.GetToken())
	}
	http.DefaultClient.CloseIdleConnections()
	w.way = w.backOverHTTP
}

// allBack brings n devices back at once and returns how many entries came.
func (w *returning) allBack(n int) int {
	got, err := w.tryAllBack(n)
	require.NoError(w.t, err)
	return got
}

// tryAllBack is allBack on a machine that may be too busy for so many: then they are told to come back later.
func (w *returning) tryAllBack(n int) (int, error) {
	back := w.back
	if w.way != nil {
		back = w.way
	}
	var entries atomic.Int64
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			got, err := back(ctx, i)
			entries.Add(int64(got))
			errs[i] = err
		})
	}
	wg.Wait()
	return int(entries.Load()), errors.Join(errs...)
}

// discard counts entries by looking at tags only, and tells when CaughtUp came.
type discard struct {
	entries  int
	done     bool
	caughtUp func()
}

func (*discard) Codec() wire.Codec { return wire.Proto }

func (d *discard) Send(f *wire.Frame) error { return d.scan(f.Bytes()) }

func (d *discard) scan(b []byte) error {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeTag(b)
		ev, m := protowire.ConsumeBytes(b[n:])
		if n < 0 || m < 0 {
			return errors.New("a frame that is no response")
		}
		b = b[n+m:]
		kind, _, _ := protowire.ConsumeTag(ev)
		switch kind { //nolint:exhaustive // field numbers
		case 1:
			d.entries++
		case caughtUpField:
			d.done = true
			if d.caughtUp != nil {
				d.caughtUp()
			}
		}
	}
	return nil
}

// caughtUpField is the number of Event.caught_up.
var caughtUpField = (&parleyv1.Event{}).ProtoReflect().Descriptor().Fields().ByName("caught_up").Number()
