package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// logCall is one call on a session's log: a send of a sender's id, or a page of the entries after a seq.
type logCall struct {
	send  string
	after int64
}

// logAnswer is what came of it.
type logAnswer struct {
	seq     int64    // of a send
	ids     []string // of a page, from after+1 on
	hasMore bool
	unknown bool // it was given up; settle finds out whether it took place
}

// logModel is what a session's log is: sends append each id once, and pages show what is there.
func logModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return []string(nil) },
		Step: func(state, in, out any) (bool, any) {
			log, call, answer := state.([]string), in.(logCall), out.(logAnswer) //nolint:errcheck,forcetypeassert // nothing else is there
			if call.send == "" {
				rest := log[min(int(call.after), len(log)):]
				if len(answer.ids) > len(rest) || !slices.Equal(answer.ids, rest[:len(answer.ids)]) || answer.hasMore != (len(answer.ids) < len(rest)) {
					return false, log
				}
				return true, log
			}
			if answer.seq == int64(len(log))+1 && !slices.Contains(log, call.send) {
				return true, append(slices.Clip(log), call.send)
			}
			return answer.seq > 0 && answer.seq <= int64(len(log)) && log[answer.seq-1] == call.send, log
		},
		Equal:             func(a, b any) bool { return slices.Equal(a.([]string), b.([]string)) }, //nolint:errcheck,forcetypeassert // nothing else is there
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}

// history records calls of many clients. Times are of one clock.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

// do records a call; the answer of one that is not to be recorded is nil.
func (h *history) do(client int, in logCall, call func() *logAnswer) {
	from := time.Since(h.began).Nanoseconds()
	out := call()
	to := time.Since(h.began).Nanoseconds()
	if out == nil {
		return
	}
	if out.unknown {
		to = 1 << 62 // it may take place at any time
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: from, Output: *out, Return: to})
}

func (h *history) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// sendRecorded sends to a session on a node; who gives up after one try leaves it open whether it took place.
func (h *history) sendRecorded(n int, c *rig.Client, session, id string, tries int) {
	h.do(n, logCall{send: c.User + "/" + id}, func() *logAnswer {
		req := rig.To(session, "x")
		req.MessageId = id
		for range tries {
			ctx, cancel := context.WithTimeout(rig.Once(context.Background()), 5*time.Second)
			res, err := c.Messages.SendMessage(ctx, req)
			cancel()
			if err == nil {
				return &logAnswer{seq: res.GetSeq()}
			}
			time.Sleep(20 * time.Millisecond)
		}
		return &logAnswer{unknown: true}
	})
}

func (h *history) listRecorded(n int, c *rig.Client, session string, after int64) {
	h.do(n, logCall{after: after}, func() *logAnswer {
		ctx, cancel := context.WithTimeout(rig.Once(context.Background()), 5*time.Second)
		defer cancel()
		page, err := c.Messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: session, Limit: 20,
			Position: &parleyv1.ListMessagesRequest_AfterSeq{AfterSeq: after}})
		if err != nil {
			return nil // a read that failed says nothing
		}
		out := &logAnswer{hasMore: page.GetHasMore()}
		for _, m := range page.GetMessages() {
			out.ids = append(out.ids, m.GetSenderId()+"/"+m.GetMessageId())
		}
		return out
	})
}

// settle finds out from the final log which of the sends that were given up took place, at some time: the others say
// nothing. It returns how many were given up.
func (h *history) settle(t *testing.T, c *rig.Client, session string) (open int) {
	seqs := map[string]int64{}
	for after := int64(0); ; {
		page := answer(t, c.Messages.ListMessages, &parleyv1.ListMessagesRequest{SessionId: session, Limit: 500,
			Position: &parleyv1.ListMessagesRequest_AfterSeq{AfterSeq: after}})
		for _, m := range page.GetMessages() {
			after = m.GetSeq()
			seqs[m.GetSenderId()+"/"+m.GetMessageId()] = after
		}
		if !page.GetHasMore() {
			break
		}
	}
	kept := h.ops[:0]
	for _, op := range h.ops {
		if answer := op.Output.(logAnswer); answer.unknown { //nolint:errcheck,forcetypeassert // nothing else is there
			open++
			seq := seqs[op.Input.(logCall).send] //nolint:errcheck,forcetypeassert // nothing else is there
			if seq == 0 {
				continue
			}
			op.Output = logAnswer{seq: seq}
		}
		kept = append(kept, op)
	}
	h.ops = kept
	return open
}

// A6: each session's log is linearizable over three nodes, while nodes, PostgreSQL and Redis die: every history of sends
// (repeated ones, given up ones) and reads fits one order.
func TestLogIsLinearizable(t *testing.T) {
	histories, most := size(1, 3, scaledTimes(30)), size(300, 2000, 2000)
	var all, open int
	report(t, "A6", fmt.Sprintf("%d histories of at most %d operations over three nodes, while nodes, PostgreSQL and Redis die", histories, most),
		"100 % linearizable (porcupine)", func() string { return fmt.Sprintf("%d operations, %d of them sends given up", all, open) })
	pg, red := testenv.OwnPostgres(t, nil), testenv.OwnRedis(t, nil)
	env := []string{"PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem"), "PARLEY_REDIS_URL=" + red.TCPURL(), "PARLEY_RING_BYTES=20000"}
	nodes := []*rig.Server{rig.StartOn(t, pg.URL(), env...), rig.StartOn(t, pg.URL(), env...), rig.StartOn(t, pg.URL(), env...)}
	waitPeers(t, nodes)
	const clients = 6
	var at [clients][3]*rig.Client // by user and node
	for n := range clients {
		token := nodes[0].Token(fmt.Sprint("u", n), "d")
		for i, s := range nodes {
			at[n][i] = s.ClientWith(fmt.Sprint("u", n), "d", token)
		}
	}
	faults := []func(){
		func() { nodes[0].Kill(); nodes[0].Restart() },
		func() { require.NoError(t, red.Kill()); require.NoError(t, red.Restart(t.Context())) },
		func() { require.NoError(t, pg.Kill()); require.NoError(t, pg.Restart(t.Context())) },
		func() { nodes[1].Kill(); nodes[1].Restart() },
	}
	for range histories {
		session := answer(t, at[0][0].Sessions.CreateSession, &parleyv1.CreateSessionRequest{Group: &parleyv1.Group{Title: "group"},
			MemberIds: []string{"u1", "u2", "u3", "u4", "u5"}}).GetSession().GetSessionId()
		h := &history{began: time.Now()}
		page := answer(t, at[0][0].Messages.ListMessages, &parleyv1.ListMessagesRequest{SessionId: session, Limit: 20})
		for _, m := range page.GetMessages() { // what was there before the others began
			h.do(0, logCall{send: m.GetSenderId() + "/" + m.GetMessageId()}, func() *logAnswer { return &logAnswer{seq: m.GetSeq()} })
		}
		var wg sync.WaitGroup
		for n := range at {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(9, uint64(n))) //nolint:gosec // a test
				var last string
				for h.len() < most-clients {
					c := at[n][rnd.IntN(3)]
					switch k := rnd.IntN(10); {
					case k < 4:
						last = rig.To(session, "").GetMessageId()
						h.sendRecorded(n, c, session, last, 1+rnd.IntN(2)*200)
					case k < 5 && last != "":
						h.sendRecorded(n, c, session, last, 1) // again, perhaps on another node
					default:
						h.listRecorded(n, c, session, max(0, int64(h.len()/2-rnd.IntN(40))))
					}
					time.Sleep(time.Duration(rnd.IntN(8)) * time.Millisecond)
				}
			})
		}
		for _, f := range faults {
			n := h.len()
			f()
			require.Eventually(t, func() bool { return h.len() > n+most/20 || h.len() >= most-clients }, patience, 10*time.Millisecond)
		}
		wg.Wait()
		open += h.settle(t, at[0][0], session)
		result := porcupine.CheckOperationsTimeout(logModel(), h.ops, 2*patience)
		require.Equal(t, porcupine.Ok, result)
		all += len(h.ops)
	}
}

// The model tells good histories from bad ones.
func TestLogModel(t *testing.T) {
	op := func(from, to int64, in logCall, out logAnswer) porcupine.Operation {
		return porcupine.Operation{Input: in, Output: out, Call: from, Return: to}
	}
	a, b := op(0, 10, logCall{send: "a"}, logAnswer{seq: 1}), op(5, 15, logCall{send: "b"}, logAnswer{seq: 2})
	again := op(20, 30, logCall{send: "a"}, logAnswer{seq: 1})
	both := op(20, 30, logCall{}, logAnswer{ids: []string{"a", "b"}})
	require.True(t, porcupine.CheckOperations(logModel(), []porcupine.Operation{a, b, again, both}))
	for name, bad := range map[string]porcupine.Operation{
		"a seq given twice":         op(20, 30, logCall{send: "c"}, logAnswer{seq: 2}),
		"a hole":                    op(20, 30, logCall{send: "c"}, logAnswer{seq: 4}),
		"another answer to a retry": op(20, 30, logCall{send: "a"}, logAnswer{seq: 3}),
		"a stale page":              op(20, 30, logCall{}, logAnswer{ids: []string{"a"}}),
		"another order":             op(20, 30, logCall{}, logAnswer{ids: []string{"b", "a"}}),
		"more than there is":        op(20, 30, logCall{after: 1}, logAnswer{ids: []string{"b"}, hasMore: true}),
	} {
		require.False(t, porcupine.CheckOperations(logModel(), []porcupine.Operation{a, b, bad}), name)
	}
}
