package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/dev/testenv"
)

// rightsWorld is a running node, a group with somebody in every part, and direct sessions of all of them with "other".
type rightsWorld struct {
	t      *testing.T
	url    string
	pg     *statements
	sql    *pgx.Conn // of the test's own, not counted
	key    string    // the admin key
	tokens map[string]string
	group  place
	theirs place            // a group that only "other" and "victim" are in
	direct map[string]place // with "other", by user
	// orphaned are with the user who is deactivated, by user.
	orphaned map[string]place
}

// place is a session, with the seq of a message of each user in it.
type place struct {
	id   string
	seqs map[string]int64
}

const deactivated = "deactivated"

func newRightsWorld(t *testing.T) *rightsWorld {
	w := &rightsWorld{t: t, key: strings.Repeat("k", 32), tokens: map[string]string{}, direct: map[string]place{}, orphaned: map[string]place{}}
	cfg := Default()
	cfg.Listen, cfg.AdminListen, cfg.UnaryTimeout = "127.0.0.1:0", "", time.Minute // on a busy machine
	database := testenv.PostgresURL(t)
	var err error
	w.sql, err = pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.sql.Close(context.Background()) })
	w.pg, cfg.Postgres.URL = countStatements(t, database)
	cfg.Auth.AdminKey, cfg.Auth.SigningKey = w.key, filepath.Join(t.TempDir(), "signing.pem")
	cfg.Webhook.Key, cfg.Webhook.AllowCIDRs, cfg.Webhook.AllowHTTP = strings.Repeat("5a", 32), []string{"127.0.0.0/8"}, true
	ctx, cancel := context.WithCancel(context.Background())
	a, err := New(ctx, cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	w.url = "http://" + a.Addr()

	for _, user := range append([]string{"stranger", "other", "victim", "newcomer", "admin2", deactivated}, parts...) {
		w.token(user, user, "phone")
		if user != "other" {
			w.token("", user, "spare")
		}
	}
	w.token("", "other", "elsewhere")
	w.token("owner's other device", "owner", "tablet")
	w.token("revoked", "member", "old")
	w.must("member", "DeviceService/RevokeDevice", `{"deviceId":"old"}`, nil)
	signer, err := auth.LoadOrCreateSigner(cfg.Auth.SigningKey, auth.SignerConfig{Issuer: ownIssuer, Audience: cfg.Auth.Audience})
	require.NoError(t, err)
	w.tokens["unknown"], _, err = signer.Mint("member", "never registered", time.Hour)
	require.NoError(t, err)

	for _, user := range append([]string{"stranger"}, parts...) {
		p := place{seqs: map[string]int64{}}
		p.id, p.seqs["other"] = w.send("other", `"peerUserId":"`+user+`"`)
		_, p.seqs[user] = w.send(user, `"sessionId":"`+p.id+`"`)
		w.direct[user] = p
		p = place{seqs: map[string]int64{}}
		p.id, p.seqs[deactivated] = w.send(deactivated, `"peerUserId":"`+user+`"`)
		_, p.seqs[user] = w.send(user, `"sessionId":"`+p.id+`"`)
		w.orphaned[user] = p
	}
	w.must("other", "RelationService/BlockUser", `{"userId":"blocked"}`, nil)
	w.theirs = w.newGroup("other", "victim")
	w.rebuild()
	w.must("", "AdminService/DeactivateUser", `{"userId":"`+deactivated+`"}`, nil)
	return w
}

// rebuild makes a new group with somebody in every part.
func (w *rightsWorld) rebuild() {
	g := w.newGroup("owner", "admin", "admin2", "member", "muted", "blocked", "former", "victim")
	set := func(rest string) {
		w.must("owner", "SessionService/SetMemberRole", `{"sessionId":"`+g.id+`",`+rest+`}`, nil)
	}
	set(`"userId":"admin","role":"MEMBER_ROLE_ADMIN"`)
	set(`"userId":"admin2","role":"MEMBER_ROLE_ADMIN"`)
	set(`"userId":"muted","isMuted":true`)
	w.must("former", "SessionService/LeaveSession", `{"sessionId":"`+g.id+`"}`, nil)
	w.group = g
}

// newGroup makes a group in which everybody has sent a message.
func (w *rightsWorld) newGroup(owner string, members ...string) place {
	ids, err := json.Marshal(members)
	require.NoError(w.t, err)
	var made struct{ Session struct{ SessionID string } }
	w.must(owner, "SessionService/CreateSession", `{"group":{"title":"t"},"memberIds":`+string(ids)+`}`, &made)
	p := place{id: made.Session.SessionID, seqs: map[string]int64{}}
	for _, user := range append(members, owner) {
		_, p.seqs[user] = w.send(user, `"sessionId":"`+p.id+`"`)
	}
	return p
}

func (w *rightsWorld) send(from, target string) (session string, seq int64) {
	var sent struct{ SessionID, Seq string }
	w.must(from, "MessageService/SendMessage", `{`+target+`,"messageId":"`+uuid.NewString()+`","content":{"text":{"body":"x"}}}`, &sent)
	seq, err := strconv.ParseInt(sent.Seq, 10, 64)
	require.NoError(w.t, err)
	return sent.SessionID, seq
}

func (w *rightsWorld) token(as, user, device string) {
	var made struct{ Token string }
	w.must("", "AdminService/CreateToken", `{"userId":"`+user+`","deviceId":"`+device+`"}`, &made)
	if as != "" {
		w.tokens[as] = made.Token
	}
}

// must calls as a user, or with the admin key as "", and decodes the answer.
func (w *rightsWorld) must(as, rpc, body string, out any) {
	w.t.Helper()
	bearer := w.key
	if as != "" {
		bearer = w.tokens[as]
	}
	reason, answer := w.call(bearer, rpc, body)
	require.Equal(w.t, "OK", reason, "%s %s: %s", as, rpc, answer)
	if out != nil {
		require.NoError(w.t, json.Unmarshal([]byte(answer), out))
	}
}

var reasonIn = regexp.MustCompile(`ERROR_REASON_([A-Z_]+)`)

// call returns OK or the reason of the refusal, and the whole answer; of a stream the first line.
func (w *rightsWorld) call(bearer, rpc, body string) (reason, answer string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/parley.v1."+rpc, strings.NewReader(body))
	if rpc == "SyncService/Subscribe" {
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v1/subscribe", http.NoBody)
	}
	require.NoError(w.t, err)
	req.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer func() { _ = res.Body.Close() }()
	raw := make([]byte, 1)
	if rpc != "SyncService/Subscribe" || res.StatusCode != http.StatusOK {
		raw, err = io.ReadAll(res.Body)
	} else {
		_, err = io.ReadFull(res.Body, raw)
	}
	require.NoError(w.t, err)
	if found := reasonIn.FindSubmatch(raw); found != nil {
		return string(found[1]), string(raw)
	}
	require.Equal(w.t, http.StatusOK, res.StatusCode, "%s: %s", rpc, raw)
	return "OK", string(raw)
}

// cost is what a call gets and what it costs: the answer without what the caller named, the statements, and whether it waits
// for the disk, which a commit does that wrote something. What the node and the database do by themselves may fall in
// between, so the statements are those of two times in a row, and it waits for the disk if it does each time.
func (w *rightsWorld) cost(bearer, rpc string, body func() string, named string) string {
	w.t.Helper()
	w.call(bearer, rpc, body()) // what the first call learns is known to the others
	seen, twice, disk := "", false, true
	for try := 0; try < 20 && (!twice || disk && try < 5); try++ {
		w.pg.take()
		before := w.onDisk()
		_, answer := w.call(bearer, rpc, body())
		disk = disk && w.onDisk() != before
		now := fmt.Sprintf("%s %v", strings.ReplaceAll(encodedIn.ReplaceAllString(answer, ""), named, "{X}"), w.pg.take())
		twice = twice || now == seen
		if !twice {
			seen = now
		}
	}
	require.True(w.t, twice, "%s: no two answers were the same: %s", rpc, seen)
	return fmt.Sprintf("%s, waits for the disk: %t", seen, disk)
}

// same requires that calls get and cost the same. What the node does by itself may fall into one of them, such as asking
// PostgreSQL for what its map, held up on a busy machine, is too old to tell, but not each time.
func (w *rightsWorld) same(what string, costs ...func() string) {
	w.t.Helper()
	got := make([]string, len(costs))
	for range 10 {
		for i, cost := range costs {
			got[i] = cost()
		}
		if slices.Max(got) == slices.Min(got) {
			return
		}
	}
	for _, other := range got[1:] {
		require.Equal(w.t, got[0], other, what)
	}
}

// encodedIn finds the encoded form of an error's detail, which has all that is shown beside it.
var encodedIn = regexp.MustCompile(`"value":"[^"]*"`)

// onDisk is how far the write-ahead log is on disk.
func (w *rightsWorld) onDisk() (lsn string) {
	require.NoError(w.t, w.sql.QueryRow(context.Background(), `SELECT pg_current_wal_flush_lsn()::text`).Scan(&lsn))
	return lsn
}

// fill puts a place and a caller into a row's body.
func (r row) fill(p place, user, other string) string {
	seq := func(of string) string { return strconv.FormatInt(max(p.seqs[of], 1), 10) }
	return strings.NewReplacer("{S}", p.id, "{U}", uuid.NewString(), "{own}", seq(user), "{other}", seq(other), "{self}", user).
		Replace(r.body)
}

// hooked puts the one webhook that there then is into a row's body.
func (w *rightsWorld) hooked(body string) string {
	w.t.Helper()
	if !strings.Contains(body, "{H}") {
		return body
	}
	_, err := w.sql.Exec(w.t.Context(), `DELETE FROM webhook`)
	require.NoError(w.t, err)
	var made struct{ Webhook struct{ WebhookID string } }
	w.must("", "AdminService/CreateWebhook", `{"url":"http://127.0.0.1:9/","eventTypes":["WEBHOOK_EVENT_TYPE_MESSAGE_CREATED"]}`, &made)
	return strings.ReplaceAll(body, "{H}", made.Webhook.WebhookID)
}
