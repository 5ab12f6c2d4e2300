package anycall

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

func TestMain(m *testing.M) {
	testenv.AtEnd(rig.RemoveBinary)
	testenv.Main(m)
}

const (
	// callsPerRPC is how many calls each rpc gets in each encoding; PARLEY_ANYCALL_CALLS sets another number.
	callsPerRPC = 20
	soakCalls   = 600
	// groupEvery is after how many calls there is a new group.
	groupEvery = 150
)

func rpcName(m protoreflect.MethodDescriptor) string {
	return string(m.Parent().Name()) + "." + string(m.Name())
}

// setting reads a number from the environment.
func setting(t *testing.T, name string, without uint64) uint64 {
	raw := os.Getenv(name)
	if raw == "" {
		return without
	}
	n, err := strconv.ParseUint(raw, 10, 64)
	require.NoError(t, err, name)
	return n
}

// Whatever is called, however: only documented refusals, none by the server's fault, and none that changed anything.
// PARLEY_ANYCALL_SEED repeats a run.
func TestAnyCall(t *testing.T) {
	calls := setting(t, "PARLEY_ANYCALL_CALLS", callsPerRPC)
	if os.Getenv("PARLEY_SOAK") != "" && os.Getenv("PARLEY_ANYCALL_CALLS") == "" {
		calls = soakCalls
	}
	if testing.Short() {
		calls = 2
	}
	seed := setting(t, "PARLEY_ANYCALL_SEED", 1)
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test
	w := newWorld(t)
	documented := readTable(t)
	w.audit = newAudit(t, w.server.PostgresURL)
	run := &run{world: w, r: r, table: documented, seen: map[string]map[string]int{}}

	var list []func()
	for _, m := range rpcs() {
		for e := range encodings {
			for range calls {
				list = append(list, func() { run.call(t, m, e) })
			}
		}
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, call := range list[:min(len(list), 200)] { // connections, pools and caches come into being
		call()
	}
	goroutines, _ := w.server.Goroutines(jobs)
	require.Greater(t, goroutines, 20)
	for i, call := range list[min(len(list), 200):] {
		if i%groupEvery == 0 {
			w.group()
			w.audit.changes(t)
		}
		call()
		if t.Failed() {
			t.Fatalf("PARLEY_ANYCALL_SEED=%d, after %d calls", seed, i)
		}
	}
	run.report(t)
	require.Eventually(t, w.server.Ready, 3*time.Minute, 200*time.Millisecond)
	require.Zero(t, run.faults(t), "calls ended as internal or unknown by the server's count")
	w.noHooks() // their jobs have goroutines
	w.h1.CloseIdleConnections()
	w.h2.CloseIdleConnections()
	var now int
	var all string
	t.Cleanup(func() {
		if now > goroutines+8 {
			t.Log(all)
		}
	})
	require.Eventually(t, func() bool {
		now, all = w.server.Goroutines(jobs)
		return now <= goroutines+8
	}, 3*time.Minute, 200*time.Millisecond, "%d goroutines before", goroutines)
}

// late is how long a call took at least that the server gave up since PostgreSQL did not answer, as on a machine that is busy
// with anything: it says nothing about the server. What fails at once does.
const late = 4 * time.Second

// jobs is the job queue's library. Its goroutines come some seconds after the server's start, when it has become the leader.
const jobs = "github.com/riverqueue/"

// run is one run of TestAnyCall.
type run struct {
	*world
	r     *rand.Rand
	table table
	seen  map[string]map[string]int // by rpc and outcome
	begun int                       // streams that may have begun
}

// call makes one call and judges it.
func (n *run) call(t *testing.T, m protoreflect.MethodDescriptor, e encoding) {
	t.Helper()
	g := &generator{r: n.r, pool: n.pool}
	spoiled := false
	switch p := n.r.Float64(); {
	case p < 0.4:
	case p < 0.7:
		g.odd = []float64{0.1, 0.3, 1}[n.r.IntN(3)]
	default:
		spoiled = true
	}
	if m.Name() == "DeactivateUser" { // the others are still needed
		g.pool = &pool{users: []string{"gone", "away", "nobody"}}
	}
	req := g.request(m.Input())
	w := onWire(m, e, req)
	if w == nil {
		return
	}
	who := n.caller(m)
	if who.header != "" {
		w.header.Set("Authorization", "Bearer "+who.header)
	}
	if spoiled {
		for s := pick(n.r, spoilers); ; s = pick(n.r, spoilers) {
			if s.spoil(w, n.r) {
				w.how = s.how
				break
			}
		}
	}
	ctx := t.Context()
	began := time.Now()
	o, err := w.do(ctx, n.client(e), n.server.URL)
	if o.reason == "UNAVAILABLE" && time.Since(began) > late {
		t.Logf("%s waited for %s for a store: a busy machine's doing", rpcName(m), time.Since(began))
		n.audit.changes(t)
		return
	}
	if m.Name() == "Subscribe" && (o.ok || err != nil) {
		n.begun++
	}
	tell := func(what string) {
		t.Errorf("%s\n  %s over %s as %s, %q\n  request %.600s\n  answer %s", what, rpcName(m), e, who.name, w.how,
			protojson.Format(req), o)
	}
	if err != nil {
		if w.foreign { // what is no call may get an answer that is none
			return
		}
		tell(fmt.Sprintf("no answer: %v", err))
		return
	}
	n.judge(t, w, o, tell)
}

// caller draws one who may call m, mostly.
func (n *run) caller(m protoreflect.MethodDescriptor) caller {
	all := n.callers
	if n.r.IntN(4) > 0 {
		if m.Parent().Name() == "AdminService" {
			return all[3]
		}
		all = all[:3]
	}
	sum := 0
	for _, c := range all {
		sum += c.weight
	}
	at := n.r.IntN(sum)
	for _, c := range all {
		if at -= c.weight; at < 0 {
			return c
		}
	}
	return all[0]
}

func (n *run) judge(t *testing.T, w *wired, o outcome, tell func(string)) {
	t.Helper()
	rpc := rpcName(w.method)
	changed := n.audit.changes(t)
	outcomes := n.seen[rpc]
	if outcomes == nil {
		outcomes = map[string]int{}
		n.seen[rpc] = outcomes
	}
	if o.ok {
		outcomes["OK"]++
		if w.broken {
			tell("a call that cannot be read was carried out")
		}
		n.learn(o.body)
		if rpc == "MessageService.SendMessages" && !w.foreign {
			n.items(w.encoding, o.body, tell)
		}
		return
	}
	outcomes[o.reason]++
	if len(changed) > 0 && !background(changed) {
		tell(fmt.Sprintf("a refused call changed something: %.4000q", changed))
	}
	if len(n.audit.streams) > n.begun {
		tell(fmt.Sprintf("a refused call began a stream: %.4000q", changed))
	}
	if strings.Contains(o.text, private) && !w.foreign {
		tell("the error repeats what the request said")
	}
	if w.foreign && o.reason == "" {
		n.foreign(o, tell)
		return
	}
	n.reason(rpc, o.code, o.reason, tell)
}

// background reports whether all changes are notes of streams, which come with a delay: how many streams they are of is
// judged apart.
func background(changed []change) bool {
	return !slices.ContainsFunc(changed, func(c change) bool {
		// Rows that were made and taken back leave notes of both.
		return c.rel != "relation_change" && c.rel != "commit_log" ||
			c.rel == "commit_log" && strings.Contains(c.after, `"stream_users": []`)
	})
}

// reason checks a refusal of an rpc against the table.
func (n *run) reason(rpc string, code connect.Code, reason string, tell func(string)) {
	switch {
	case reason == "":
		tell("an error without a reason")
	case reason == "INTERNAL" || reason == "UNAVAILABLE" || reason == "OVERLOADED" || reason == "SHUTTING_DOWN":
		tell("an error of the server")
	case !n.table.always[reason] && !n.table.of[rpc][reason]:
		tell("a reason that docs/errors.md does not name here")
	case !n.table.codes[reason][code]:
		tell("a code that error_reason.proto does not name for this reason")
	}
}

// foreign checks an answer to what is no call of a known protocol: HTTP's own, or one of those that connect makes of the
// protocol's headers.
func (n *run) foreign(o outcome, tell func(string)) {
	switch o.code {
	case 0, connect.CodeUnimplemented, connect.CodeInvalidArgument, connect.CodeDeadlineExceeded:
	default:
		tell("no code for what is no call")
	}
	if o.code == 0 && (o.status < http.StatusBadRequest || o.status >= http.StatusInternalServerError) && o.status != http.StatusNotImplemented {
		tell("no status for what is no call")
	}
}

// items judges the answers of SendMessages one by one.
func (n *run) items(e encoding, body []byte, tell func(string)) {
	var res parleyv1.SendMessagesResponse
	var err error
	if e == connectJSON || e == rest {
		err = protojson.Unmarshal(body, &res)
	} else {
		err = proto.Unmarshal(body, &res)
	}
	if err != nil {
		tell(fmt.Sprintf("an answer that cannot be read: %v", err))
	}
	for _, item := range res.GetResults() {
		if refused := item.GetError(); refused != nil {
			n.reason("MessageService.SendMessage", connect.Code(refused.GetCode()), reasonName(refused.GetDetail()), tell) //nolint:gosec // at most 16
		}
	}
}

// faults counts the calls that ended as the server's fault.
func (n *run) faults(t *testing.T) (sum float64) {
	t.Helper()
	for _, code := range []string{"internal", "unknown", "data_loss"} {
		sum += n.server.MetricWith("parley_calls_total", `code="`+code+`"`)
	}
	return sum
}

// report says what came of the calls.
func (n *run) report(t *testing.T) {
	t.Helper()
	var all, ok int
	for _, rpc := range slices.Sorted(maps.Keys(n.seen)) {
		t.Logf("%-40s %v", rpc, n.seen[rpc])
		for what, count := range n.seen[rpc] {
			all += count
			if what == "OK" {
				ok += count
			}
		}
		// The server here has no key for webhooks, so no call of theirs is right; server/e2e/webhook_test.go makes such.
		if !testing.Short() && !strings.Contains(rpc, "Webhook") {
			require.NotZero(t, n.seen[rpc]["OK"], "%s: no call was right, so little was tried", rpc)
		}
	}
	t.Logf("%d calls, %d of them right", all, ok)
}
