package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/e2e/rig"
)

// hookEnv lets webhooks reach receivers of tests.
var hookEnv = []string{"PARLEY_WEBHOOK_KEY=" + strings.Repeat("5a", 32), "PARLEY_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8", "PARLEY_WEBHOOK_ALLOW_HTTP=true"}

// told is one request that a receiver took.
type told struct {
	id      string
	payload *parleyv1.WebhookPayload
	header  http.Header
	raw     []byte
}

func (r told) key() string {
	m := r.payload.GetData().GetMessage()
	return fmt.Sprintf("%s %s %d", r.payload.GetType(), m.GetSessionId(), m.GetSeq())
}

// receiver is an app's backend that takes webhooks. It can be killed and started again on the same address.
type receiver struct {
	t      *testing.T
	addr   string
	answer func(told) (int, string) // nil: 204

	mu   sync.Mutex
	took []told
	srv  *http.Server
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *receiver) start() {
	addr := r.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var ln net.Listener
	require.Eventually(r.t, func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", addr) //nolint:noctx // at once
		return err == nil
	}, patience, 20*time.Millisecond)
	r.addr = ln.Addr().String()
	srv := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.mu.Lock()
	r.srv = srv
	r.mu.Unlock()
	go func() { _ = srv.Serve(ln) }()
}

func (r *receiver) kill() {
	r.mu.Lock()
	srv := r.srv
	r.mu.Unlock()
	_ = srv.Close()
}

func (r *receiver) url() string { return "http://" + r.addr + "/hooks" }

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	x := told{id: req.Header.Get("webhook-id"), payload: &parleyv1.WebhookPayload{}, header: req.Header.Clone(), raw: raw}
	if err := protojson.Unmarshal(raw, x.payload); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	status, body := http.StatusNoContent, ""
	if r.answer != nil {
		status, body = r.answer(x)
	}
	if status/100 == 2 {
		r.mu.Lock()
		r.took = append(r.took, x)
		r.mu.Unlock()
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (r *receiver) all() []told {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]told(nil), r.took...)
}

// apart leaves out what was told again under its id. At least once is what is promised: an answer that is late, as on a busy
// machine, is none.
func apart(all []told) (out []told) {
	seen := map[string]bool{}
	for _, x := range all {
		if !seen[x.id] {
			seen[x.id] = true
			out = append(out, x)
		}
	}
	return out
}

// until waits until what was taken satisfies a condition.
func (r *receiver) until(what string, ok func([]told) bool) []told {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return ok(r.all()) }, 2*patience, 50*time.Millisecond, what) // a dead node's are taken over after a minute
	return r.all()
}

func createHook(t *testing.T, s *rig.Server, req *parleyv1.CreateWebhookRequest) *parleyv1.CreateWebhookResponse {
	t.Helper()
	res, err := s.Admin().CreateWebhook(t.Context(), req)
	require.NoError(t, err)
	return res
}

const (
	hookCreated   = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MESSAGE_CREATED
	hookRecalled  = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MESSAGE_RECALLED
	hookMembers   = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MEMBER_CHANGED
	hookSettings  = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_SESSION_CHANGED
	hookRelations = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_RELATION_CHANGED
	hookOffline   = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MESSAGE_OFFLINE
	hookModerated = parleyv1.WebhookEventType_WEBHOOK_EVENT_TYPE_MODERATION
)

func countTypes(all []told) map[string]int {
	n := make(map[string]int)
	for _, x := range all {
		n[x.payload.GetType()]++
	}
	return n
}
