package app

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNobodySeesMore lets people come to a group, leave it, be removed from it and come back, while its past is shown to who
// comes or is not, and then asks every way to read for every seq: it shows what the intervals of the user's memberships
// have, all of it and nothing else.
func TestNobodySeesMore(t *testing.T) {
	w := newRightsWorld(t)
	seeds, steps := 6, 40
	if testing.Short() {
		seeds, steps = 1, 25
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			live := map[string]*watcher{}
			of := *w // the same world, whose failures are this test's
			of.t = t
			h := newHistory(t, &of, uint64(seed)) //nolint:gosec // small
			for _, u := range h.users {
				h.token(u+" watching", u, "watching "+h.group)
				live[u] = h.watch(t, h.tokens[u+" watching"])
			}
			for range steps {
				h.step()
			}
			for _, u := range h.users {
				what := fmt.Sprintf("%s of %v, head %d", u, h.visible(u), h.head)
				h.checkPages(t, u, what)
				h.checkHead(t, u, what)
				h.checkLive(t, u, live[u], what)
			}
			for _, u := range h.users { // last: these move cursors
				h.checkEach(t, u)
			}
			h.checkReaders(t)
		})
	}
}

// checkPages reads the log and the states in pages, forwards and backwards.
func (h *history) checkPages(t *testing.T, u, what string) {
	type page struct {
		Messages []struct{ Seq number }
		States   []struct{ Seq number }
		HeadSeq  number
		HasMore  bool
	}
	want := h.visible(u)
	read := func(rpc string, body func(last int64, first bool) string, back bool) (seqs []int64) {
		for n := 0; ; n++ {
			require.Less(t, n, 100, "it does not end")
			last := int64(0)
			if len(seqs) > 0 {
				last = seqs[len(seqs)-1]
			}
			var p page
			if !h.ask(u, rpc, body(last, n == 0), &p) {
				return nil // never was in it
			}
			list := append(p.Messages, p.States...)
			if back {
				slices.Reverse(list)
			}
			for _, m := range list {
				seqs = append(seqs, int64(m.Seq))
			}
			if len(list) == 0 {
				return seqs
			}
			if len(p.Messages) > 0 {
				require.Equal(t, want[len(want)-1], int64(p.HeadSeq), what)
			}
		}
	}
	after := func(last int64, _ bool) string {
		return fmt.Sprintf(`{"sessionId":"{S}","afterSeq":"%d","limit":3}`, last)
	}
	require.Equal(t, want, read("MessageService/ListMessages", after, false), what)
	require.Equal(t, want, read("StateService/ListStates", after, false), what)
	back := read("MessageService/ListMessages", func(last int64, first bool) string {
		if first {
			return `{"sessionId":"{S}","limit":3}`
		}
		return fmt.Sprintf(`{"sessionId":"{S}","beforeSeq":"%d","limit":3}`, last)
	}, true)
	slices.Reverse(back)
	require.Equal(t, want, back, what)
}

// checkHead looks at what tells of the end of what can be seen: the session, its last message, what is unread.
func (h *history) checkHead(t *testing.T, u, what string) {
	type view struct {
		SessionID   string
		HeadSeq     number
		LastMessage struct{ Seq number }
		Unread      number
		Title       string
		MemberCount int
	}
	want := h.visible(u)
	var one struct{ Session view }
	if !h.ask(u, "SessionService/GetSession", `{"sessionId":"{S}"}`, &one) {
		require.Empty(t, want, what)
		return
	}
	last := want[len(want)-1]
	var all struct{ Sessions []view }
	require.True(t, h.ask(u, "SessionService/ListSessions", `{"includeLeft":true,"limit":200}`, &all))
	views := []view{one.Session}
	for _, v := range all.Sessions {
		if v.SessionID == h.group {
			views = append(views, v)
		}
	}
	require.Len(t, views, 2)
	unread := h.unread(u, h.sent[u])
	for _, v := range views {
		require.Equal(t, last, int64(v.HeadSeq), what)
		require.Equal(t, last, int64(v.LastMessage.Seq), what)
		require.Equal(t, unread, int64(v.Unread), what)
		require.Equal(t, h.in[u] == 0, v.MemberCount == 0, what)
	}
	var count struct{ Sessions []view }
	require.True(t, h.ask(u, "StateService/GetUnread", `{"sessionIds":["{S}"]}`, &count))
	got := int64(0)
	for _, v := range count.Sessions {
		got += int64(v.Unread)
	}
	require.Equal(t, unread, got, what)
}

// checkLive looks at what streams and pulls showed: of a device that was there all the time, and of a new one: nothing
// twice, and nothing after what comes later.
func (h *history) checkLive(t *testing.T, u string, live *watcher, what string) {
	want := h.visible(u)
	shows := func(name string, shown []int64) {
		for i, seq := range shown {
			require.True(t, h.sees[u][seq], "%s shows %d to %s", name, seq, what)
			require.True(t, i == 0 || shown[i-1] < seq, "%s shows %d after %d to %s", name, seq, shown[max(i-1, 0)], what)
		}
		for seq := h.in[u]; h.in[u] > 0 && seq <= h.head; seq++ { // of the present membership all of it
			require.Contains(t, shown, seq, "%s does not show %d to %s", name, seq, what)
		}
	}
	if len(want) > 0 {
		last := want[len(want)-1]
		require.Eventually(t, func() bool { return slices.Contains(live.of(h.group), last) }, 2*time.Minute, 5*time.Millisecond, what)
	}
	shows("the stream", live.of(h.group))
	device := fmt.Sprintf("%s new %s", u, h.group)
	h.token(device, u, h.group)
	shows("a new stream", h.watch(t, h.tokens[device]).of(h.group))
	h.token(device, u, h.group+" too")
	var shown []int64
	for token := ""; ; {
		var p struct {
			Messages []struct {
				SessionID string
				Seq       number
			}
			NextPageToken string
		}
		require.True(t, h.ask(device, "SyncService/PullOffline", `{"limit":7,"pageToken":"`+token+`"}`, &p))
		for _, m := range p.Messages {
			if m.SessionID == h.group {
				shown = append(shown, int64(m.Seq))
			}
		}
		if token = p.NextPageToken; token == "" {
			break
		}
	}
	shows("a pull", shown)
	for _, device := range []string{h.group, h.group + " too", "watching " + h.group} { // 64 devices are the most
		h.must(u, "DeviceService/RevokeDevice", `{"deviceId":"`+device+`"}`, nil)
	}
}

// checkEach asks for every seq, and one past the head: to read it, who has read it, and to move cursors to it.
func (h *history) checkEach(t *testing.T, u string) {
	for seq := int64(1); seq <= h.head+1; seq++ {
		what := fmt.Sprintf("%s at %d of %v", u, seq, h.visible(u))
		at := fmt.Sprintf(`{"sessionId":"{S}","seq":"%d"}`, seq)
		single := fmt.Sprintf(`{"sessionId":"{S}","seqs":["%d"]}`, seq)
		sees := h.sees[u][seq]
		require.Equal(t, sees, h.ask(u, "MessageService/GetMessage", at, nil), what)
		require.Equal(t, sees && h.in[u] > 0, h.ask(u, "StateService/ListReaders", at, nil), what)
		require.Equal(t, sees, h.ask(u, "StateService/MarkRead", single, nil), what)
		require.Equal(t, sees, h.ask(u, "StateService/MarkRead", fmt.Sprintf(`{"sessionId":"{S}","upToSeq":"%d"}`, seq), nil), what)
		if !sees {
			require.False(t, h.ask(u, "StateService/DeleteForMe", single, nil), what)
		}
		visible := h.visible(u)
		may := len(visible) > 0 && seq <= visible[len(visible)-1]
		require.Equal(t, may, h.ask(u, "SyncService/Ack", `{"acks":[`+at+`]}`, nil), what)
	}
}

// checkReaders: when all have read all, a message's readers are the members who can see it, without its sender.
func (h *history) checkReaders(t *testing.T) {
	for seq, sender := range h.texts {
		want := []string{}
		for _, u := range h.users {
			if u != sender && h.in[u] > 0 && h.sees[u][seq] {
				want = append(want, u)
			}
		}
		slices.Sort(want)
		var got struct{ Readers []struct{ UserID string } }
		require.True(t, h.ask("owner", "StateService/ListReaders", fmt.Sprintf(`{"sessionId":"{S}","seq":"%d"}`, seq), &got))
		readers := []string{}
		for _, r := range got.Readers {
			readers = append(readers, r.UserID)
		}
		require.Equal(t, want, readers, "of %d by %s", seq, sender)
	}
}
