package app

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// number is a 64-bit number as JSON has them: in quotes, and absent for 0.
type number int64

func (n *number) UnmarshalJSON(raw []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(raw), `"`), 10, 64)
	*n = number(v)
	return err
}

// history is a group in which people come and go, and what of its log each of them may see by definition: the intervals of
// their memberships, counted out seq by seq.
type history struct {
	*rightsWorld
	rng   *rand.Rand
	group string
	users []string
	sees  map[string]map[int64]bool // by user and seq
	in    map[string]int64          // of members, the seq with which they came; 0: no member
	open  bool                      // whether the past is shown to those who come
	texts map[int64]string          // senders of messages, by seq
	sent  map[string]int64          // the last seq that a user sent
	head  int64
}

func newHistory(t *testing.T, w *rightsWorld, seed uint64) *history {
	h := &history{rightsWorld: w, rng: rand.New(rand.NewPCG(seed, 1)), users: []string{"owner", "admin", "member", "former", "victim"}, //nolint:gosec // a test's
		sees: map[string]map[int64]bool{}, in: map[string]int64{}, texts: map[int64]string{}, sent: map[string]int64{}}
	for _, u := range h.users {
		h.sees[u] = map[int64]bool{}
	}
	var made struct{ Session struct{ SessionID string } }
	w.must("owner", "SessionService/CreateSession", `{"group":{}}`, &made)
	h.group, h.in["owner"] = made.Session.SessionID, 1
	h.entry(1)
	return h
}

// entry notes the next entry, which members see.
func (h *history) entry(seq int64) {
	require.Equal(h.t, h.head+1, seq)
	h.head = seq
	for u, joined := range h.in {
		if joined > 0 {
			h.sees[u][seq] = true
		}
	}
}

// step lets something happen.
func (h *history) step() {
	var done struct{ Seq number }
	session := `{"sessionId":"` + h.group + `"`
	u := h.users[1+h.rng.IntN(len(h.users)-1)]
	switch n := h.rng.IntN(10); {
	case n < 4:
		if h.in[u] == 0 {
			u = "owner"
		}
		_, seq := h.send(u, `"sessionId":"`+h.group+`"`)
		h.texts[seq], h.sent[u] = u, seq
		h.entry(seq)
	case n == 4:
		h.open = !h.open
		h.must("owner", "SessionService/UpdateSession", fmt.Sprintf(`%s,"historyVisible":%t}`, session, h.open), &done)
		h.entry(int64(done.Seq))
	case h.in[u] == 0:
		h.must("owner", "SessionService/AddMembers", session+`,"userIds":["`+u+`"]}`, &done)
		h.in[u] = int64(done.Seq)
		h.entry(int64(done.Seq))
		for seq := int64(1); h.open && seq < h.head; seq++ {
			h.sees[u][seq] = true
		}
	case n < 7:
		h.must("owner", "SessionService/RemoveMember", session+`,"userId":"`+u+`"}`, &done)
		h.entry(int64(done.Seq))
		h.in[u] = 0
	default:
		h.must(u, "SessionService/LeaveSession", session+`}`, &done)
		h.entry(int64(done.Seq))
		h.in[u] = 0
	}
}

// visible are the seqs that a user may see, ascending.
func (h *history) visible(user string) (seqs []int64) {
	for seq := int64(1); seq <= h.head; seq++ {
		if h.sees[user][seq] {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// unread is how many messages of others came since the user did, and since they sent or read last.
func (h *history) unread(user string, read int64) (n int64) {
	if h.in[user] == 0 {
		return 0
	}
	for seq, sender := range h.texts {
		if sender != user && seq >= h.in[user] && seq > read {
			n++
		}
	}
	return n
}

// ask calls as a user and decodes the answer; false when it is refused.
func (h *history) ask(user, rpc, body string, out any) bool {
	h.t.Helper()
	reason, answer := h.call(h.tokens[user], rpc, strings.ReplaceAll(body, "{S}", h.group))
	if reason != "OK" {
		require.Contains(h.t, []string{"SESSION_UNAVAILABLE", "MESSAGE_UNAVAILABLE", "CURSOR_INVISIBLE", "CURSOR_BEYOND_HEAD"}, reason)
		return false
	}
	if out != nil {
		require.NoError(h.t, json.Unmarshal([]byte(answer), out), answer)
	}
	return true
}

// watcher is a live stream that notes which seqs of a session it shows.
type watcher struct {
	mu    sync.Mutex
	shown map[string][]int64 // by session
}

// watch opens a stream and returns when it has caught up.
func (w *rightsWorld) watch(t *testing.T, token string) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v1/subscribe", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req) //nolint:bodyclose // the goroutine does
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	v := &watcher{shown: map[string][]int64{}}
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = res.Body.Close() }()
		lines := bufio.NewReader(res.Body)
		caught := false
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			raw, ok := strings.CutPrefix(line, "data: ")
			var frame struct {
				Events []struct {
					Message *struct {
						SessionID string
						Seq       number
					}
					CaughtUp *struct{}
				}
			}
			if !ok || json.Unmarshal([]byte(raw), &frame) != nil {
				continue
			}
			v.mu.Lock()
			for _, e := range frame.Events {
				if e.Message != nil {
					v.shown[e.Message.SessionID] = append(v.shown[e.Message.SessionID], int64(e.Message.Seq))
				}
				if e.CaughtUp != nil && !caught {
					caught = true
					close(ready)
				}
			}
			v.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-ready:
	case <-time.After(2 * time.Minute):
		require.Fail(t, "the stream did not catch up")
	}
	return v
}

func (v *watcher) of(session string) []int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.shown[session])
}
