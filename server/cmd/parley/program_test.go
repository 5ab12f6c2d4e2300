package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/dev/testenv"
)

// These tests run the program as its users do.

const (
	testKey  = "the-admin-key-of-these-tests-is-long"
	patience = 30 * time.Second
)

// program is built once for all tests, by TestMain.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "parley-program-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "parley")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := errors.Join(testenv.Close(), os.RemoveAll(dir)); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// output collects what a program prints; tests wait for lines in it.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// wait waits until the text was printed.
func (o *output) wait(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for !strings.Contains(o.String(), text) {
		select {
		case <-o.changed:
		case <-deadline:
			t.Fatalf("%q was not printed; this was:\n%s", text, o.String())
		}
	}
}

// running is a program that was started.
type running struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *output // what it printed
	notes *output // what it wrote to standard error
	done  chan error
}

// start runs the program with no settings but the given ones.
func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	cmd.Dir = t.TempDir()
	r := &running{cmd: cmd, out: newOutput(), notes: newOutput(), done: make(chan error, 1)}
	var err error
	r.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = r.out, r.notes
	require.NoError(t, cmd.Start())
	go func() { r.done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("parley %s:\n%s%s", args[0], r.out, r.notes)
		}
	})
	return r
}

func (r *running) say(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(r.in, line+"\n")
	require.NoError(t, err)
}

func (r *running) signal(t *testing.T, s os.Signal) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Signal(s))
}

// end waits for the program's end.
func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		t.Fatalf("the program does not end; it printed:\n%s%s", r.out, r.notes)
		return nil
	}
}

// once runs the program without input to its end, and returns all that it printed.
func once(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	r := start(t, env, args...)
	require.NoError(t, r.in.Close())
	err := r.end(t)
	return r.out.String() + r.notes.String(), err
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"run", "--help"}, {"migrate", "--help"},
		{"token", "--help"}, {"chat", "--help"}} {
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

// node is a server and what its users need to know.
type node struct {
	env  []string
	addr string
	ops  string
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{addr: freeAddr(t), ops: freeAddr(t)}
	n.env = []string{"PARLEY_POSTGRES_URL=" + testenv.PostgresURL(t), "PARLEY_ADMIN_KEY=" + testKey, "PARLEY_LISTEN=" + n.addr,
		"PARLEY_ADMIN_LISTEN=" + n.ops, "PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem")}
	return n
}

func (n *node) serve(t *testing.T) *running {
	t.Helper()
	r := start(t, n.env, "serve")
	r.notes.wait(t, "serving")
	return r
}

func (n *node) client(args ...string) []string {
	return append(args, "--server", "http://"+n.addr)
}

func (n *node) user(t *testing.T, user string) string {
	t.Helper()
	out, err := once(t, n.env[1:2], n.client("token", "--user", user, "--device", "terminal")...)
	require.NoError(t, err, out)
	return strings.TrimSpace(out)
}

// call calls an rpc as JSON and returns a field of the answer, wherever in it that is.
func (n *node) call(t *testing.T, token, rpc, body, field string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.addr+"/parley.v1."+rpc, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, string(answer))
	_, rest, found := strings.Cut(string(answer), `"`+field+`":"`)
	require.True(t, found, "no %s in %s", field, answer)
	value, _, _ := strings.Cut(rest, `"`)
	return value
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
	env := []string{"PARLEY_LISTEN=" + addr, "PARLEY_ADMIN_LISTEN=" + ops, "PARLEY_DATA_DIR=" + data}
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
