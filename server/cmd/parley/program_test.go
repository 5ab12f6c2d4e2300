package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/dev/testenv"
)

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"run", "--help"}, {"migrate", "--help"},
		{"token", "--help"}, {"chat", "--help"}, {"cluster", "--help"}, {"simulate", "--help"}} {
		out, err := once(t, []string{"PARLEY_ADMIN_KEY=" + testKey}, args...)
		require.NoError(t, err, "%v: %s", args, out)
		require.Contains(t, out, "Usage:")
		require.NotContains(t, out, testKey)
	}
	out, err := once(t, nil, "version")
	require.NoError(t, err)
	require.Equal(t, "parley "+app.Version+"\n", out)
}

// What is missing is said in words, and nothing starts.
func TestServeNeedsItsSettings(t *testing.T) {
	out, err := once(t, nil, "serve")
	require.Error(t, err)
	for _, name := range []string{"PARLEY_POSTGRES_URL", "PARLEY_ADMIN_KEY", "PARLEY_SIGNING_KEY"} {
		require.Contains(t, out, name)
	}
	out, err = once(t, []string{"PARLEY_ADMIN_KEY=short-secret", "PARLEY_POSTGRES_URL=postgres://u:secret@127.0.0.1:1/x"}, "serve")
	require.Error(t, err)
	require.Contains(t, out, "at least 32")
	require.NotContains(t, out, "secret@")
	require.NotContains(t, out, "short-secret")
}

// Settings that make no sense stop the start, by name and without their values where those may be secrets.
func TestServeRefusesNonsense(t *testing.T) {
	good := []string{"PARLEY_POSTGRES_URL=postgres://u:secret@127.0.0.1:1/x", "PARLEY_ADMIN_KEY=" + testKey,
		"PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem"), "PARLEY_POSTGRES_WAIT=1ms"}
	for setting, says := range map[string]string{
		"PARLEY_LISTEN=nowhere":            "PARLEY_LISTEN",
		"PARLEY_ADMIN_LISTEN=8081":         "PARLEY_ADMIN_LISTEN",
		"PARLEY_MAX_SESSIONS=0":            "PARLEY_MAX_SESSIONS",
		"PARLEY_COMMITTERS=0":              "PARLEY_COMMITTERS",
		"PARLEY_COMMITTERS=many":           "PARLEY_COMMITTERS",
		"PARLEY_HEARTBEAT=-1s":             "PARLEY_HEARTBEAT",
		"PARLEY_LOG_LEVEL=loud":            "PARLEY_LOG_LEVEL",
		"PARLEY_POSTGRES_MAX_CONNS=1":      "PARLEY_POSTGRES_MAX_CONNS",
		"PARLEY_TLS_CERT=/x":               "PARLEY_TLS_KEY",
		"PARLEY_JWKS_FILE=/x":              "PARLEY_TOKEN_ISSUER",
		"PARLEY_POSTGRES_URL=":             "PARLEY_POSTGRES_URL",
		"PARLEY_ADMIN_KEY=":                "PARLEY_ADMIN_KEY",
		"PARLEY_POSTGRES_URL=://x:secret@": "POSTGRES",
	} {
		t.Run(setting, func(t *testing.T) {
			out, err := once(t, append(slices.Clone(good), setting), "serve")
			require.Error(t, err)
			require.Contains(t, strings.ToUpper(out), says)
			require.NotContains(t, out, "secret@")
			require.NotContains(t, out, testKey)
		})
	}
	out, err := once(t, good, "serve", "--no-such-flag")
	require.Error(t, err)
	require.Contains(t, out, "--no-such-flag")
}

func TestToken(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	token := n.user(t, "bob")
	require.Len(t, strings.Split(token, "."), 3)

	refused := func(env []string, args ...string) string {
		out, err := once(t, env, n.client(append([]string{"token"}, args...)...)...)
		require.Error(t, err)
		require.NotContains(t, out, "eyJ")
		return out
	}
	require.Contains(t, refused(nil, "--user", "bob", "--device", "d"), "no admin key")
	require.Contains(t, refused([]string{"PARLEY_ADMIN_KEY=" + strings.Repeat("x", 32)}, "--user", "bob", "--device", "d"), "API_KEY_INVALID")
	require.Contains(t, refused(n.env[1:2], "--user", "bob", "--device", "d", "--ttl", "1s"), "INVALID_FIELD")
	require.Contains(t, refused(n.env[1:2], "--user", "bob"), "device")
	// What is no server says so.
	out, err := once(t, n.env[1:2], "token", "--user", "bob", "--device", "d", "--server", "http://"+freeAddr(t))
	require.Error(t, err)
	require.Contains(t, out, "refused")
}

func TestMigrate(t *testing.T) {
	env := []string{"PARLEY_POSTGRES_URL=" + testenv.EmptyPostgresURL(t)}
	status := func(args ...string) string {
		out, err := once(t, env, append([]string{"migrate"}, args...)...)
		require.NoError(t, err, out)
		return out
	}
	require.Contains(t, status("status"), "schema version 0,")
	newest := status("up")
	require.NotContains(t, newest, "schema version 0,")
	require.Equal(t, newest, status("up"), "again changes nothing")
	out, err := once(t, env, "migrate", "down")
	require.Error(t, err, "it deletes data")
	require.Contains(t, out, "--yes")
	require.NotEqual(t, newest, status("down", "--yes"))
	require.Equal(t, newest, status("up"))
}

func TestAdminListener(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	get := func(addr, path string) (int, string) {
		res, err := http.Get("http://" + addr + path)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body)
	}
	status, body := get(n.ops, "/readyz")
	require.Equal(t, http.StatusOK, status, body)
	status, _ = get(n.ops, "/healthz")
	require.Equal(t, http.StatusOK, status)
	n.user(t, "alice")
	status, body = get(n.ops, "/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `parley_calls_total{code="ok",procedure="/parley.v1.AdminService/CreateToken"}`)
	require.Contains(t, body, "parley_streams ")
	status, _ = get(n.ops, "/debug/pprof/")
	require.Equal(t, http.StatusOK, status)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/readyz"} {
		status, _ = get(n.addr, path)
		require.Equal(t, http.StatusNotFound, status, "%s must not be public", path)
	}
}

// parley run brings everything with it, and what it made is still there the next time.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL of its own")
	}
	data := testenv.DataDir(t)
	addr, ops := freeAddr(t), freeAddr(t)
	env := []string{"PARLEY_LISTEN=" + addr, "PARLEY_ADMIN_LISTEN=" + ops, "PARLEY_DATA_DIR=" + data, "PARLEY_DRAIN_TIMEOUT=2m"}
	run := func() *running {
		r := start(t, env, "run")
		r.out.wait(t, "bin/parley chat --as bob")
		return r
	}
	first := run()
	info, err := os.Stat(filepath.Join(data, "admin.key"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	var token string
	lines := bufio.NewScanner(strings.NewReader(first.out.String()))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "export BOB="); ok {
			token = value
		}
	}
	require.NotEmpty(t, token)
	client := []string{"chat", "--server", "http://" + addr, "--data-dir", data, "--as", "alice", "--with", "bob"}
	r := start(t, nil, client...)
	r.say(t, "kept")
	require.NoError(t, r.in.Close())
	require.NoError(t, r.end(t))
	first.signal(t, os.Interrupt)
	require.NoError(t, first.end(t))

	second := run()
	out, err := once(t, []string{"PARLEY_TOKEN=" + token}, "chat", "--server", "http://"+addr, "--with", "alice")
	require.NoError(t, err, out)
	require.Contains(t, out, "alice: kept\n")
	second.signal(t, syscall.SIGTERM)
	require.NoError(t, second.end(t))
}
