package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

// canaries are marks that stand in everything private, each once: which one is found where says what leaked.
type canaries struct {
	mu    sync.Mutex
	marks map[string]string // mark -> what it stands for
}

func (c *canaries) mark(what string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := "canary" + strings.ReplaceAll(uuid.NewString(), "-", "")
	c.marks[m] = what
	return m
}

// known makes a secret that the test did not choose a canary.
func (c *canaries) known(what, secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks[secret] = what
}

func (c *canaries) requireNone(t *testing.T, where, text string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for m, what := range c.marks {
		if at := strings.Index(text, m); at >= 0 {
			t.Errorf("%s holds %s: ...%s...", where, what, text[max(0, at-200):min(len(text), at+len(m)+100)])
		}
	}
}

// collector takes traces as an OTLP collector does.
type collector struct {
	*httptest.Server
	mu  sync.Mutex
	got bytes.Buffer
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = io.Copy(&c.got, r.Body)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got.String()
}

// Nothing private is in logs, metrics, traces or errors, at the most talkative level, whatever goes well or wrong.
func TestNothingPrivateLeaks(t *testing.T) {
	t.Parallel()
	c := &canaries{marks: make(map[string]string)}
	otlp := newCollector(t)
	pg, err := url.Parse(testenv.PostgresURL(t))
	require.NoError(t, err)
	if _, has := pg.User.Password(); !has { // servers that trust do not ask for it
		pg.User = url.UserPassword(pg.User.Username(), c.mark("PostgreSQL's password"))
	}
	redis, err := url.Parse(testenv.OwnRedis(t, nil).TCPURL())
	require.NoError(t, err)
	redis.User = url.UserPassword("", c.mark("Redis's password")) // it refuses it, which is logged
	s := rig.StartOn(t, pg.String(), "PARLEY_LOG_LEVEL=debug", "PARLEY_REDIS_URL="+redis.String(),
		"OTEL_EXPORTER_OTLP_ENDPOINT="+otlp.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key="+c.mark("the collector's key"),
		"PARLEY_ADMIN_KEY_OLD="+c.mark("the former admin key"), "PARLEY_RATE_CALLS_DEVICE=400/h",
		hookEnv[0], hookEnv[1], hookEnv[2])
	c.known("the admin key", strings.ReplaceAll(rig.AdminKey, " ", "-"))
	c.known("the webhooks' key", strings.TrimPrefix(hookEnv[0], "PARLEY_WEBHOOK_KEY="))
	secrets := leakyHooks(t, s, c)

	leakScenario(t, s, c)

	for _, path := range []string{"/metrics", "/debug/roster", "/debug/pprof/cmdline", "/readyz"} {
		c.requireNone(t, path, get(t, s.OpsURL+path))
	}
	leakedByTables(t, s, c, secrets)
	s.Stop() // hands on what traces wait
	require.Contains(t, otlp.text(), "SendMessage", "traces come as they are, in which marks would be found")
	c.requireNone(t, "the traces", otlp.text())
	require.Contains(t, s.Log(), `"level":"DEBUG"`)
	require.Contains(t, s.Log(), "redis is left alone")
	c.requireNone(t, "the log", s.Log())
}

// leakyHooks makes webhooks that carry something private everywhere and whose receiver answers with private words, to
// deliveries and when it is asked to moderate. It returns their secrets.
func leakyHooks(t *testing.T, s *rig.Server, c *canaries) (secrets []string) {
	r := newReceiver(t)
	r.answer = func(told) (int, string) { return http.StatusInternalServerError, c.mark("what a receiver answered") }
	for _, kind := range []parleyv1.WebhookEventType{hookCreated, hookModerated} {
		req := &parleyv1.CreateWebhookRequest{Url: r.url() + "?key=" + c.mark("a webhook's URL"), Description: c.mark("a webhook's description"),
			EventTypes: []parleyv1.WebhookEventType{kind}}
		if kind == hookModerated {
			req.ModerationFailure = parleyv1.ModerationFailure_MODERATION_FAILURE_ALLOW
		}
		made := createHook(t, s, req)
		rotated, err := s.Admin().RotateWebhookSecret(t.Context(), &parleyv1.RotateWebhookSecretRequest{WebhookId: made.GetWebhook().GetWebhookId()})
		require.NoError(t, err)
		secrets = append(secrets, strings.TrimPrefix(made.GetSecret(), "whsec_"), strings.TrimPrefix(rotated.GetSecret(), "whsec_"))
	}
	for _, secret := range secrets {
		c.known("a webhook's secret", secret)
	}
	_, err := s.Admin().CreateWebhook(t.Context(), &parleyv1.CreateWebhookRequest{Url: "http://10.0.0.1/" + c.mark("an URL that is refused"),
		EventTypes: []parleyv1.WebhookEventType{hookCreated}})
	require.Error(t, err)
	c.requireNone(t, "an error", fmt.Sprintf("%v %v", err, detailOf(err)))
	return secrets
}

// leakedByTables looks for what the tables of webhooks and their jobs must not hold: bodies and receivers' words anywhere, and
// secrets in the clear.
func leakedByTables(t *testing.T, s *rig.Server, c *canaries, secrets []string) {
	conn, err := pgx.Connect(t.Context(), s.PostgresURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	dump := func(table string) (all string) {
		t.Helper()
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT coalesce(string_agg(x::text, E'\\n'), '') FROM "+table+" x").Scan(&all), table)
		return all
	}
	require.Eventually(t, func() bool { return dump("webhook_attempt") != "" }, patience, 50*time.Millisecond, "nothing was tried")
	rows, err := conn.Query(t.Context(), `SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'r' AND (c.relnamespace = 'river'::regnamespace
		OR c.relnamespace = current_schema::regnamespace AND c.relname LIKE 'webhook\_%')`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Subset(t, tables, []string{"webhook_delivery", "webhook_attempt", "webhook_session", "river.river_job"})
	for _, table := range tables {
		c.requireNone(t, table, dump(table))
	}
	settings := dump("webhook")
	for _, secret := range secrets {
		raw, err := base64.StdEncoding.DecodeString(secret)
		require.NoError(t, err)
		require.NotContains(t, settings, secret)
		require.NotContains(t, settings, hex.EncodeToString(raw))
		require.NotContains(t, settings, hex.EncodeToString([]byte(secret)))
	}
}

// leakScenario does all that carries something private, right and wrong, and looks at what errors say.
func leakScenario(t *testing.T, s *rig.Server, c *canaries) {
	ctx := t.Context()
	tokens := map[string]string{"alice": s.Token("alice", "a1"), "bob": s.Token("bob", "b1")}
	for user, token := range tokens {
		c.known(user+"'s token", token)
		c.known("the signature of "+user+"'s token", token[strings.LastIndex(token, ".")+1:])
	}
	failed := func(err error) {
		t.Helper()
		require.Error(t, err)
		c.requireNone(t, "an error", fmt.Sprintf("%v %v", err, detailOf(err)))
	}
	for name, opts := range map[string][]connect.ClientOption{"connect": nil, "json": {connect.WithProtoJSON()}, "grpc": {rig.H2, connect.WithGRPC()}} {
		alice, bob := s.ClientWith("alice", "a1", tokens["alice"], opts...), s.ClientWith("bob", "b1", tokens["bob"], opts...)
		_, err := alice.Devices.RegisterDevice(ctx, &parleyv1.RegisterDeviceRequest{Platform: parleyv1.DevicePlatform_DEVICE_PLATFORM_WEB,
			PushTarget: c.mark("a push target"), DisplayName: c.mark("a device's name")})
		require.NoError(t, err, name)
		group, err := alice.Sessions.CreateSession(ctx, &parleyv1.CreateSessionRequest{MemberIds: []string{"bob"},
			Group: &parleyv1.Group{Title: c.mark("a title"), AvatarUrl: "https://x.example/" + c.mark("an avatar")}})
		require.NoError(t, err)
		id := group.GetSession().GetSessionId()
		sent := alice.Send(ctx, id, c.mark("a body"))
		alice.Send(ctx, "bob", c.mark("a body to a user"))
		req := rig.To(id, c.mark("a body that is sent again"))
		_, err = alice.Messages.SendMessage(ctx, req)
		require.NoError(t, err)
		req.Content.GetText().Body = c.mark("another body under the same id")
		_, err = alice.Messages.SendMessage(ctx, req)
		failed(err)
		_, err = bob.Messages.SendMessage(ctx, rig.To("nobody", c.mark("a body to nobody")))
		failed(err)
		bad := rig.To(id, c.mark("a body in a wrong request"))
		bad.MessageId = c.mark("a wrong id")
		_, err = alice.Messages.SendMessage(ctx, bad)
		failed(err)
		_, err = alice.Messages.SendMessage(ctx, rig.To(id, strings.Repeat(c.mark("a body that is too long"), 3000)))
		failed(err)
		custom := rig.To(id, "")
		custom.Content = &parleyv1.Content{Kind: &parleyv1.Content_Custom{Custom: &parleyv1.Custom{TypeUrl: "example.com/" + c.mark("a type"), Payload: []byte(c.mark("a payload"))}}}
		_, err = alice.Messages.SendMessage(ctx, custom)
		require.NoError(t, err)
		_, err = alice.Messages.RecallMessage(ctx, &parleyv1.RecallMessageRequest{SessionId: id, Seq: sent.GetSeq()})
		require.NoError(t, err)
		_, err = bob.Messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: id})
		require.NoError(t, err)
		_, err = bob.Sync.PullOffline(ctx, &parleyv1.PullOfflineRequest{PageToken: c.mark("a page token")})
		failed(err)
		for _, wrong := range []string{"x" + tokens["alice"] + c.mark("a forged token"), c.mark("no token"), "a.b." + c.mark("no signature")} {
			_, err = s.ClientWith("alice", "a1", wrong, opts...).States.GetUnread(ctx, &parleyv1.GetUnreadRequest{})
			failed(err)
			_, err = s.ClientWith("alice", "a1", wrong, opts...).Admin().GetStats(ctx, &parleyv1.GetStatsRequest{})
			failed(err)
		}
		streaming, stop := context.WithTimeout(ctx, patience)
		stream, err := bob.Sync.Subscribe(streaming, &parleyv1.SubscribeRequest{})
		require.NoError(t, err)
		require.True(t, stream.Receive(), "%v", stream.Err())
		stop()
		_ = stream.Close()
	}
	rawRequests(t, s, c, tokens["alice"])
	for i := 0; ; i++ { // until the device is refused
		require.Less(t, i, 500)
		if _, err := s.ClientWith("alice", "a1", tokens["alice"]).States.GetUnread(ctx, &parleyv1.GetUnreadRequest{}); err != nil {
			failed(err)
			break
		}
	}
}

// rawRequests sends what no client sends.
func rawRequests(t *testing.T, s *rig.Server, c *canaries, token string) {
	for _, r := range []struct{ method, path, kind, body string }{
		{"POST", "/parley.v1.MessageService/SendMessage", "application/json", `{"content": ` + c.mark("malformed JSON")},
		{"POST", "/parley.v1.MessageService/SendMessage", "application/proto", c.mark("malformed protobuf")},
		{"POST", "/parley.v1.MessageService/SendMessage", "application/json", `{"` + c.mark("an unknown field") + `":1}`},
		{"POST", "/parley.v1.MessageService/SendMessage", c.mark("a content type"), "x"},
		{"POST", "/v1/sessions/" + c.mark("a path") + "/messages", "application/json", `{"content":{"text":{"body":"` + c.mark("REST's body") + `"}}}`},
		{"GET", "/v1/offline?limit=" + c.mark("a query"), "", ""},
		{"GET", "/v1/subscribe?max_backlog=" + c.mark("SSE's query"), "", ""},
		{"GET", "/v1/unread?access_token=" + c.mark("a token in a URL"), "", ""},
		{"GET", "/" + c.mark("no page"), "", ""},
		{"POST", "/parley.v1.Nothing/" + c.mark("no rpc"), "application/grpc", c.mark("a body for nobody")},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, s.URL+r.path, strings.NewReader(r.body))
		require.NoError(t, err)
		if r.kind != "" {
			req.Header.Set("Content-Type", r.kind)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Last-Event-ID", c.mark("an event id"))
		req.Header.Set("User-Agent", c.mark("a user agent"))
		req.Header.Set("Traceparent", c.mark("a trace"))
		req.Header.Set("Cookie", "session="+c.mark("a cookie"))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		res, err := http.DefaultClient.Do(req.WithContext(ctx))
		require.NoError(t, err)
		time.AfterFunc(10*time.Second, cancel)                 // should it be a stream
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // a stream ends with the context
		res.Body.Close()
		cancel()
		c.requireNone(t, r.method+" "+r.path[:4], string(body)+fmt.Sprint(res.Header))
	}
}

func get(t *testing.T, from string) string {
	t.Helper()
	res, err := http.Get(from) //nolint:noctx // local
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(body)
}
