package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

func rounds(t *testing.T) int {
	if testing.Short() {
		return 1
	}
	return 3
}

// The server is killed in mid-load and starts again: what it acknowledged is there, and devices resume without a gap.
func TestServerKilledUnderLoad(t *testing.T) {
	s := rig.Start(t)
	sc := newScene(t, s)
	l := startLoad(t, sc.senders, sc.ids)
	for range rounds(t) {
		before := l.count()
		require.Eventually(t, func() bool { return l.count() > before+300 }, patience, 5*time.Millisecond)
		s.Kill()
		s.Restart()
	}
	before := l.count()
	require.Eventually(t, func() bool { return l.count() > before+100 }, patience, 5*time.Millisecond)
	l.stop()
	require.Zero(t, l.codes[connect.CodeInternal])
	l.check(t, sc.senders[0].Client, sc.all, sc.ids)
	t.Logf("%d acknowledged, codes %v", l.count(), l.codes)
}

// PostgreSQL is killed under load: clients see UNAVAILABLE, nothing acknowledged is lost, and the server recovers.
//
// A4. Two nodes, fsync on, five times.
func TestPostgresKilledUnderLoad(t *testing.T) {
	kills := size(1, 5, 5)
	var back []time.Duration
	l := &load{}
	report(t, "A4", fmt.Sprintf("PostgreSQL killed -9 %d times under load, fsync on, two nodes", kills),
		"every acked entry there; clients see UNAVAILABLE only; 0 duplicates after retry; back <= 5 s after PostgreSQL",
		func() string {
			return fmt.Sprintf("%d acked, refused %v, back after %s", l.count(), l.codes, spread(back))
		})
	pg := testenv.OwnPostgres(t, nil)
	key := "PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem")
	nodes := []*rig.Server{rig.StartOn(t, pg.URL(), key), rig.StartOn(t, pg.URL(), key)}
	s := nodes[0]
	waitPeers(t, nodes)
	sc := newFleetScene(t, nodes)
	l = startLoad(t, sc.senders, sc.ids)
	for range kills {
		before := l.count()
		require.Eventually(t, func() bool { return l.count() > before+200 }, patience, 5*time.Millisecond)
		refused := l.refused()
		require.NoError(t, pg.Kill())
		require.Eventually(t, func() bool { return l.refused() > refused }, patience, 5*time.Millisecond, "no send met the fault")
		before = l.count()
		require.NoError(t, pg.Restart(t.Context()))
		began := time.Now()
		// Answers of what had committed before the kill may still come in.
		require.Eventually(t, func() bool { return l.count() > before+20 }, patience, 5*time.Millisecond)
		back = append(back, time.Since(began))
		require.Less(t, back[len(back)-1], size(patience, patience, 5*time.Second))
	}
	before := l.count()
	require.Eventually(t, func() bool { return l.count() > before+100 }, patience, 5*time.Millisecond)
	l.stop()
	require.NotEmpty(t, l.codes, "no send met the fault: the test proves nothing")
	for code := range l.codes {
		require.Equal(t, connect.CodeUnavailable, code, "codes %v", l.codes)
	}
	require.Eventually(t, s.Ready, patience, 50*time.Millisecond)
	l.check(t, sc.senders[0].Client, sc.all, sc.ids)
	t.Logf("%d acknowledged, codes %v", l.count(), l.codes)
}

// SIGTERM: streams end with a retryable reason, and every send that was acknowledged is there.
func TestGracefulShutdown(t *testing.T) {
	s := rig.Start(t)
	sc := newScene(t, s)
	l := startLoad(t, sc.senders, sc.ids)
	once := s.NewDevice("u0", "probe")
	ended := make(chan error, 1)
	go func() { ended <- once.Once(context.Background()) }()
	once.WaitCaughtUp(1)
	require.Eventually(t, func() bool { return l.count() > 100 }, patience, 5*time.Millisecond)
	s.Stop()
	err := <-ended
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
	require.Equal(t, "SHUTTING_DOWN", reason(err))
	s.Restart()
	l.stop()
	require.Zero(t, l.codes[connect.CodeInternal])
	l.check(t, sc.senders[0].Client, sc.all, sc.ids)
}

// A5 on one node: the same send several times at once, with answers dropped, and again after a restart.
func TestSendIsIdempotent(t *testing.T) {
	s := rig.Start(t)
	alice, bob := s.Client("alice", "a1"), s.Client("bob", "b1")
	group := alice.Group(t.Context(), "bob")
	sends := 150
	if testing.Short() {
		sends = 30
	}
	first := make([]*parleyv1.SendMessageResponse, sends)
	reqs := make([]*parleyv1.SendMessageRequest, sends)
	var wg sync.WaitGroup
	for n := range sends {
		target := group
		if n%3 == 0 {
			target = "bob"
		}
		reqs[n] = rig.To(target, fmt.Sprint(n))
		var mu sync.Mutex
		for k := range 2 + n%4 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if k%3 == 2 {
					time.AfterFunc(time.Duration(n%4)*time.Millisecond, cancel) // the answer gets lost
				}
				res, err := alice.Messages.SendMessage(ctx, reqs[n])
				if err != nil {
					if connect.CodeOf(err) != connect.CodeCanceled {
						t.Errorf("send %d: %v", n, err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if first[n] != nil && !proto.Equal(first[n], res) {
					t.Errorf("two answers: %v and %v", first[n], res)
				}
				first[n] = res
			})
		}
	}
	wg.Wait()
	s.Kill()
	s.Restart()
	for n, req := range reqs {
		res, err := alice.Messages.SendMessage(t.Context(), req)
		require.NoError(t, err)
		require.True(t, proto.Equal(first[n], res), "%v and %v", first[n], res)
		other := proto.CloneOf(req)
		other.GetContent().GetText().Body += "!"
		_, err = alice.Messages.SendMessage(t.Context(), other)
		require.Equal(t, connect.CodeAlreadyExists, connect.CodeOf(err))
		require.Equal(t, "MESSAGE_ID_REUSED", reason(err))
	}
	own, err := bob.Messages.SendMessage(t.Context(), &parleyv1.SendMessageRequest{MessageId: reqs[1].GetMessageId(),
		Content: reqs[1].GetContent(), Target: &parleyv1.SendMessageRequest_SessionId{SessionId: group}})
	require.NoError(t, err, "ids of other users are independent")
	require.Greater(t, own.GetSeq(), first[1].GetSeq())
	elsewhere := alice.Group(t.Context(), "bob")
	again, err := alice.Messages.SendMessage(t.Context(), &parleyv1.SendMessageRequest{MessageId: reqs[1].GetMessageId(),
		Content: reqs[1].GetContent(), Target: &parleyv1.SendMessageRequest_SessionId{SessionId: elsewhere}})
	require.NoError(t, err, "ids in other sessions are independent")
	require.EqualValues(t, 2, again.GetSeq())
	head, err := alice.Sessions.GetSession(t.Context(), &parleyv1.GetSessionRequest{SessionId: group})
	require.NoError(t, err)
	require.EqualValues(t, 1+sends-(sends+2)/3+1, head.GetSession().GetHeadSeq(), "one entry per id")
}

// A8: a kick is a cut, on the live path, after coming back, and on every read path.
func TestKickIsACut(t *testing.T) {
	s := rig.Start(t)
	sc := newScene(t, s)
	kicks := 40
	if testing.Short() {
		kicks = 8
	}
	id := sc.ids[0]
	l := startLoad(t, sc.senders[:2], sc.ids[:1]) // u0 and u1 keep talking
	admin := sc.senders[0]
	victim := []*rig.Device{sc.senders[3], sc.watchers[3]} // u3 is removed and comes back
	_, err := admin.Sessions.RemoveMember(t.Context(), &parleyv1.RemoveMemberRequest{SessionId: id, UserId: "u3"})
	require.NoError(t, err)
	type span struct{ from, to int64 }
	var spans []span
	var last atomic.Int64
	for range kicks {
		in, err := admin.Sessions.AddMembers(t.Context(), &parleyv1.AddMembersRequest{SessionId: id, UserIds: []string{"u3"}})
		require.NoError(t, err)
		n := l.count()
		require.Eventually(t, func() bool { return l.count() > n+5 }, patience, time.Millisecond)
		out, err := admin.Sessions.RemoveMember(t.Context(), &parleyv1.RemoveMemberRequest{SessionId: id, UserId: "u3"})
		require.NoError(t, err)
		spans = append(spans, span{in.GetSeq(), out.GetSeq()})
		last.Store(out.GetSeq())
		_, err = victim[0].Messages.SendMessage(t.Context(), rig.To(id, "after the kick"))
		require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "%v", err)
		for _, d := range victim {
			d.WaitSeq(id, out.GetSeq())
		}
	}
	l.stop()
	want := map[int64]bool{}
	for _, sp := range spans {
		for seq := sp.from; seq <= sp.to; seq++ {
			want[seq] = true
		}
	}
	visible := func(seqs []int64) (n int) {
		for _, seq := range seqs {
			if seq < spans[0].from {
				continue // of the first membership
			}
			require.True(t, want[seq], "seq %d was shown and lies in no membership", seq)
			n++
		}
		return n
	}
	late := s.Online("u3", "late") // a device that was never there
	for _, d := range victim {
		require.Equal(t, len(want), visible(d.Seqs(id)))
	}
	visible(late.Seqs(id))
	requireNoProblems(t, victim...)
	page, err := victim[0].Messages.ListMessages(t.Context(), &parleyv1.ListMessagesRequest{SessionId: id, Limit: 500})
	require.NoError(t, err)
	require.Equal(t, last.Load(), page.GetHeadSeq())
	for _, m := range page.GetMessages() {
		visible([]int64{m.GetSeq()})
	}
	l.check(t, sc.senders[0].Client, []*rig.Device{sc.senders[0], sc.senders[1], sc.senders[2], sc.watchers[0]}, sc.ids[:1])
}

// A9: a send that races a kick, a block or a mute is refused or lies before the cut; one that starts after it is refused.
func TestSendRacesKickBlockAndMute(t *testing.T) {
	s := rig.Start(t)
	admin, member := s.Client("admin", "d"), s.Client("member", "d")
	yes, no := true, false
	for range 10 * rounds(t) {
		for _, how := range []string{"kick", "mute", "block"} {
			id := admin.Group(t.Context(), "member")
			if how == "block" {
				id = member.Send(t.Context(), "admin", "hi").GetSessionId()
			}
			var mu sync.Mutex
			var seqs []int64
			var wg sync.WaitGroup
			start := make(chan struct{})
			for range 4 {
				wg.Go(func() {
					<-start
					for range 5 {
						res, err := member.Messages.SendMessage(context.Background(), rig.To(id, "x"))
						if err == nil {
							mu.Lock()
							seqs = append(seqs, res.GetSeq())
							mu.Unlock()
						} else if connect.CodeOf(err) != connect.CodePermissionDenied {
							t.Errorf("%s: %v", how, err)
						}
					}
				})
			}
			close(start)
			cut := int64(1 << 60)
			switch how {
			case "kick":
				res, err := admin.Sessions.RemoveMember(t.Context(), &parleyv1.RemoveMemberRequest{SessionId: id, UserId: "member"})
				require.NoError(t, err)
				cut = res.GetSeq()
			case "mute":
				res, err := admin.Sessions.SetMemberRole(t.Context(), &parleyv1.SetMemberRoleRequest{SessionId: id, UserId: "member", IsMuted: &yes})
				require.NoError(t, err)
				cut = res.GetSeq()
			case "block":
				_, err := admin.Relations.BlockUser(t.Context(), &parleyv1.BlockUserRequest{UserId: "member"})
				require.NoError(t, err)
			}
			_, err := member.Messages.SendMessage(t.Context(), rig.To(id, "too late"))
			require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "%s: %v", how, err)
			require.Equal(t, map[string]string{"kick": "SESSION_UNAVAILABLE", "mute": "MUTED", "block": "RECIPIENT_UNAVAILABLE"}[how], reason(err))
			wg.Wait()
			for _, seq := range seqs {
				require.Less(t, seq, cut, how)
			}
			if how == "mute" {
				_, err := admin.Sessions.SetMemberRole(t.Context(), &parleyv1.SetMemberRoleRequest{SessionId: id, UserId: "member", IsMuted: &no})
				require.NoError(t, err)
				member.Send(t.Context(), id, "again")
			}
			if how == "block" {
				_, err := admin.Relations.UnblockUser(t.Context(), &parleyv1.UnblockUserRequest{UserId: "member"})
				require.NoError(t, err)
			}
		}
	}
}

// Recalled bodies are on no path and in no store.
func TestRecallMeansGone(t *testing.T) {
	const secret = "the-body-that-was-recalled"
	s := rig.Start(t)
	alice, bob := s.Client("alice", "a1"), s.Online("bob", "b1")
	id := alice.Send(t.Context(), "bob", "first").GetSessionId()
	sent := alice.Send(t.Context(), id, secret)
	bob.WaitSeq(id, 2)
	cached := func() bool { return redisHolds(t, s.RedisURL, id, secret) }
	require.Eventually(t, cached, patience, 20*time.Millisecond, "the body never came to Redis: the test would prove nothing")
	_, err := bob.Messages.RecallMessage(t.Context(), &parleyv1.RecallMessageRequest{SessionId: id, Seq: sent.GetSeq()})
	require.Equal(t, "NOT_RECALLABLE", reason(err), "only the sender may, in a direct session")
	one, err := alice.Messages.RecallMessage(t.Context(), &parleyv1.RecallMessageRequest{SessionId: id, Seq: sent.GetSeq()})
	require.NoError(t, err)
	two, err := alice.Messages.RecallMessage(t.Context(), &parleyv1.RecallMessageRequest{SessionId: id, Seq: sent.GetSeq()})
	require.NoError(t, err)
	require.Equal(t, one.GetSeq(), two.GetSeq())
	bob.WaitSeq(id, one.GetSeq())

	late := s.Online("bob", "late")
	page, err := bob.Messages.ListMessages(t.Context(), &parleyv1.ListMessagesRequest{SessionId: id})
	require.NoError(t, err)
	pulled, err := s.Client("bob", "poll").Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{})
	require.NoError(t, err)
	got, err := bob.Messages.GetMessage(t.Context(), &parleyv1.GetMessageRequest{SessionId: id, Seq: sent.GetSeq()})
	require.NoError(t, err)
	for _, list := range [][]*parleyv1.Message{late.Shown(id), page.GetMessages(), pulled.GetMessages(), {got.GetMessage()}} {
		for _, m := range list {
			require.NotContains(t, m.String(), secret)
			if m.GetSeq() == sent.GetSeq() {
				require.True(t, m.GetIsDeleted())
			}
		}
	}
	unread, err := bob.States.GetUnread(t.Context(), &parleyv1.GetUnreadRequest{})
	require.NoError(t, err)
	require.EqualValues(t, 1, unread.GetTotal(), "what was recalled is not unread")

	conn, err := pgx.Connect(t.Context(), s.PostgresURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var rows int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM msg WHERE position($1::bytea IN content) > 0`, []byte(secret)).Scan(&rows))
	require.Zero(t, rows)
	require.Eventually(t, func() bool { return !cached() }, patience, 20*time.Millisecond, "the body is still in Redis")
	s.Stop()
	require.NotContains(t, s.Log(), secret)
}

// redisHolds reports whether any body of the session in Redis has the text in it.
func redisHolds(t *testing.T, url, session, text string) bool {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	keys, err := c.Keys(t.Context(), "offline:{"+session+"}*").Result()
	require.NoError(t, err)
	for _, k := range keys {
		bodies, err := c.ZRange(t.Context(), k, 0, -1).Result()
		require.NoError(t, err)
		for _, b := range bodies {
			if strings.Contains(b, text) {
				return true
			}
		}
	}
	return false
}
