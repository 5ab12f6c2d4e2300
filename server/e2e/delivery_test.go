package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

func upTo(n int64) (out []int64) {
	for i := int64(1); i <= n; i++ {
		out = append(out, i)
	}
	return out
}

func requireNoProblems(t *testing.T, devices ...*rig.Device) {
	t.Helper()
	for _, d := range devices {
		require.Empty(t, d.Problems(), "%s/%s", d.User, d.Device)
	}
}

// What the README's tour shows: plain HTTP sends, every other device gets it once and in order.
func TestTour(t *testing.T) {
	s := rig.Start(t)
	alice := s.Token("alice", "a1")
	s.Token("bob", "b1")
	bob1, alice1, alice2 := s.Online("bob", "b1"), s.Online("alice", "a1"), s.Online("alice", "a2")
	bob2 := s.NewDevice("bob", "b2")

	post := func(path, body string) map[string]any {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+alice)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		raw, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode, "%s", raw)
		var out parleyv1.SendMessageResponse
		require.NoError(t, protojson.Unmarshal(raw, &out))
		return map[string]any{"session": out.GetSessionId(), "seq": out.GetSeq()}
	}
	first := post("/parley.v1.MessageService/SendMessage",
		fmt.Sprintf(`{"peerUserId":"bob","messageId":%q,"content":{"text":{"body":"hi"}}}`, uuid.NewString()))
	require.EqualValues(t, 1, first["seq"])
	id, ok := first["session"].(string)
	require.True(t, ok)
	alice1.WaitSeq(id, 1) // the first entry brings the session to the sending device too, as backlog
	for n := 2; n <= 10; n++ {
		sent := post("/v1/sessions/"+id+"/messages", fmt.Sprintf(`{"messageId":%q,"content":{"text":{"body":"m%d"}}}`, uuid.NewString(), n))
		require.EqualValues(t, n, sent["seq"])
	}
	bob1.WaitSeq(id, 10)
	alice2.WaitSeq(id, 10)
	require.Equal(t, upTo(10), bob1.Seqs(id))
	require.Equal(t, upTo(10), alice2.Seqs(id))

	bob2.Connect() // comes back later
	bob2.WaitSeq(id, 10)
	require.Equal(t, upTo(10), bob2.Seqs(id))
	requireNoProblems(t, bob1, bob2, alice2)
	for _, d := range []*rig.Device{bob1, bob2, alice2} {
		require.Zero(t, d.Repeats)
	}
	// From then on its answers take the entries' places.
	for _, m := range alice1.Shown(id) {
		require.EqualValues(t, 1, m.GetSeq())
	}

	// The same over server-sent events.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/subscribe", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+s.Token("bob", "b3"))
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, http.StatusOK, res.StatusCode)
	var seqs []int64
	lines := bufio.NewScanner(res.Body)
	for len(seqs) < 10 && lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var out parleyv1.SubscribeResponse
		require.NoError(t, protojson.Unmarshal([]byte(data), &out))
		for _, ev := range out.GetEvents() {
			if m := ev.GetMessage(); m != nil {
				seqs = append(seqs, m.GetSeq())
			}
		}
	}
	require.Equal(t, upTo(10), seqs)

	// And by polling, in pages.
	poll := s.Client("bob", "b4")
	seqs = nil
	token := ""
	for {
		page, err := poll.Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{Limit: 3, PageToken: token})
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.GetMessages()), 3)
		for _, m := range page.GetMessages() {
			seqs = append(seqs, m.GetSeq())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	require.Equal(t, upTo(10), seqs)
	_, err = poll.Sync.Ack(t.Context(), &parleyv1.AckRequest{Acks: []*parleyv1.Cursor{{SessionId: id, Seq: 9}}})
	require.NoError(t, err)
	rest, err := poll.Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{})
	require.NoError(t, err)
	require.Len(t, rest.GetMessages(), 1)
}

// One message to a group of n users with m devices each is n*m-1 deliveries.
func TestFanOutIsEveryDeviceButTheSending(t *testing.T) {
	const users, devices, messages = 5, 3, 4
	s := rig.Start(t)
	var all [][]*rig.Device
	var names []string
	for u := range users {
		name := fmt.Sprintf("user%d", u)
		var own []*rig.Device
		for d := range devices {
			own = append(own, s.NewDevice(name, fmt.Sprintf("d%d", d)))
		}
		all, names = append(all, own), append(names, name)
	}
	id := all[0][0].Group(t.Context(), names[1:]...)
	for _, own := range all {
		for _, d := range own {
			d.Connect()
			d.WaitCaughtUp(1)
			d.WaitSeq(id, 1)
		}
	}
	before := s.Metric("parley_deliveries_total")
	raw := 0
	for _, own := range all {
		for _, d := range own {
			raw -= len(d.Shown(id))
		}
	}
	var last int64
	for n := range messages {
		last = all[0][0].Send(t.Context(), id, fmt.Sprint(n)).GetSeq()
	}
	for u, own := range all {
		for i, d := range own {
			if u == 0 && i == 0 {
				continue
			}
			d.WaitSeq(id, last)
		}
	}
	// A message of another session is behind all of those on every stream of the sender's, so it proves the absence.
	probe := all[1][0].Send(t.Context(), names[0], "probe")
	all[0][0].WaitSeq(probe.GetSessionId(), 1)
	for _, own := range all {
		for _, d := range own {
			raw += len(d.Shown(id))
			requireNoProblems(t, d)
		}
	}
	require.Equal(t, messages*(users*devices-1), raw)
	require.GreaterOrEqual(t, s.Metric("parley_deliveries_total")-before, float64(messages*(users*devices-1)))
}

// everyProtocol is how streams may be asked for, beside server-sent events.
func everyProtocol() map[string][]connect.ClientOption {
	return map[string][]connect.ClientOption{
		"connect proto":    nil,
		"connect json":     {connect.WithProtoJSON()},
		"connect h2c":      {rig.H2},
		"grpc":             {rig.H2, connect.WithGRPC()},
		"grpc json":        {rig.H2, connect.WithGRPC(), connect.WithProtoJSON()},
		"grpc-web":         {connect.WithGRPCWeb()},
		"connect gzip":     {connect.WithSendGzip()},
		"grpc-web in json": {connect.WithGRPCWeb(), connect.WithProtoJSON()},
	}
}

// Every protocol that the listener speaks, on both versions of HTTP.
func TestEveryProtocolDeliversTheSame(t *testing.T) {
	s := rig.Start(t)
	sender := s.Client("alice", "a1")
	s.Token("bob", "b0")
	id := sender.Send(t.Context(), "bob", "before").GetSessionId()
	var wg sync.WaitGroup
	devices := map[string]*rig.Device{}
	for name, opts := range everyProtocol() {
		devices[name] = s.NewDevice("bob", name, opts...)
		devices[name].Connect()
		devices[name].WaitCaughtUp(1)
	}
	last := sender.Send(t.Context(), id, "after").GetSeq()
	for name, d := range devices {
		wg.Go(func() {
			d.WaitSeq(id, last)
			if got := d.Seqs(id); len(got) != 2 {
				t.Errorf("%s: %v", name, got)
			}
		})
	}
	wg.Wait()
}

// Read on one device is read on the other, live and after coming back.
func TestReadOnOneDeviceIsReadOnTheOther(t *testing.T) {
	s := rig.Start(t)
	alice := s.Client("alice", "a1")
	b1, b2 := s.Online("bob", "b1"), s.Online("bob", "b2")
	id := alice.Send(t.Context(), "bob", "one").GetSessionId()
	last := alice.Send(t.Context(), id, "two").GetSeq()
	b1.WaitSeq(id, last)
	res, err := b1.States.MarkRead(t.Context(), &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: 1})
	require.NoError(t, err)
	require.EqualValues(t, 1, res.GetUnread())
	b2.WaitEvent("state", func(ev *parleyv1.Event) bool {
		return ev.GetState().GetReadSeq() == 1 && ev.GetState().GetUnread() == 1
	})
	require.Never(t, func() bool {
		for _, ev := range b1.Events() {
			if ev.GetState() != nil {
				return true
			}
		}
		return false
	}, 200*time.Millisecond, 20*time.Millisecond, "the device that read is not told")
	b3 := s.Online("bob", "b3")
	for _, m := range b3.Shown(id) {
		require.Equal(t, m.GetSeq() <= 1, m.GetState().GetIsRead())
	}
}

func TestTypingIsToldAndNotKept(t *testing.T) {
	s := rig.Start(t)
	alice, bob := s.Online("alice", "a1"), s.Online("bob", "b1")
	id := alice.Send(t.Context(), "bob", "hi").GetSessionId()
	bob.WaitSeq(id, 1)
	_, err := alice.Sync.SendSignal(t.Context(), &parleyv1.SendSignalRequest{SessionId: id,
		Signal: &parleyv1.Signal{Kind: &parleyv1.Signal_Typing{Typing: &parleyv1.Typing{IsTyping: true}}}})
	require.NoError(t, err)
	bob.WaitEvent("typing", func(ev *parleyv1.Event) bool {
		return ev.GetSignal().GetSenderId() == "alice" && ev.GetSignal().GetSignal().GetTyping().GetIsTyping()
	})
	_, err = s.Client("carol", "c1").Sync.SendSignal(t.Context(), &parleyv1.SendSignalRequest{SessionId: id,
		Signal: &parleyv1.Signal{Kind: &parleyv1.Signal_Typing{Typing: &parleyv1.Typing{}}}})
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
}
