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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *output
	done chan error
}

// start runs the program with no settings but the given ones.
func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	cmd.Dir = t.TempDir()
	r := &running{cmd: cmd, out: newOutput(), done: make(chan error, 1)}
	var err error
	r.in, err = cmd.StdinPipe()
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = r.out, r.out
	require.NoError(t, cmd.Start())
	go func() { r.done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("parley %s:\n%s", strings.Join(args, " "), r.out)
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
		t.Fatalf("the program does not end; it printed:\n%s", r.out)
		return nil
	}
}

// once runs the program to its end.
func once(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	r := start(t, env, args...)
	require.NoError(t, r.in.Close())
	err := r.end(t)
	return r.out.String(), err
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
		{"token", "--help"}, {"chat", "--help"}, {"version"}} {
		out, err := once(t, nil, args...)
		require.NoError(t, err, "%v: %s", args, out)
		require.NotEmpty(t, out)
		require.NotContains(t, out, testKey)
	}
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
	r.out.wait(t, "serving")
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

func (n *node) chat(t *testing.T, as, with string) *running {
	t.Helper()
	r := start(t, n.env[1:2], n.client("chat", "--as", as, "--with", with)...)
	r.out.wait(t, "* connected")
	return r
}

func TestChat(t *testing.T) {
	n := newNode(t)
	server := n.serve(t)
	n.user(t, "bob")
	alice, bob := n.chat(t, "alice", "bob"), n.chat(t, "bob", "alice")

	alice.say(t, "hello \x1b[31mbob")
	bob.out.wait(t, "#1 alice: hello \uFFFD[31mbob\n")
	alice.out.wait(t, "#1 alice: hello")
	alice.out.wait(t, "read by bob up to #1")
	bob.say(t, "hello alice")
	alice.out.wait(t, "#2 bob: hello alice\n")
	bob.say(t, "a slip")
	bob.say(t, "/recall")
	alice.out.wait(t, "#4 * bob recalled #3\n")
	bob.say(t, "/who")
	bob.out.wait(t, "* alice (member,")
	bob.say(t, "/nonsense")
	bob.out.wait(t, "there is no /nonsense")

	// What is entered while the server is away is sent when it is back, once and in order.
	server.signal(t, syscall.SIGTERM)
	require.NoError(t, server.end(t))
	alice.out.wait(t, "* connection lost")
	bob.out.wait(t, "* connection lost")
	alice.say(t, "one")
	alice.say(t, "two")
	alice.out.wait(t, "* not sent yet")
	server = n.serve(t)
	bob.out.wait(t, "#5 alice: one\n")
	bob.out.wait(t, "#6 alice: two\n")

	// Without any warning, too.
	server.signal(t, syscall.SIGKILL)
	require.Error(t, server.end(t))
	alice.say(t, "three")
	n.serve(t)
	bob.out.wait(t, "#7 alice: three\n")
	require.Equal(t, 1, strings.Count(bob.out.String(), "alice: three\n"))

	for _, r := range []*running{alice, bob} {
		r.say(t, "/quit")
		require.NoError(t, r.end(t))
	}
	require.Equal(t, 1, strings.Count(bob.out.String(), "#2 "), "every message is shown once")

	late := n.chat(t, "bob", "alice")
	late.out.wait(t, "#7 alice: three")
	require.Contains(t, late.out.String(), "#3 bob: (recalled)\n")
	require.NotContains(t, late.out.String(), "slip")
	late.say(t, "/quit")
	require.NoError(t, late.end(t))
}

// A script pipes its lines in; the program ends when all are sent.
func TestChatInAPipe(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	n.user(t, "bob")
	r := start(t, n.env[1:2], n.client("chat", "--as", "alice", "--with", "bob")...)
	for range 20 {
		r.say(t, "line")
	}
	require.NoError(t, r.in.Close())
	require.NoError(t, r.end(t))
	require.Contains(t, r.out.String(), "#20 alice: line\n")

	out, err := once(t, []string{"PARLEY_TOKEN=" + n.user(t, "bob")}, n.client("chat", "--with", "alice", "--history", "5")...)
	require.NoError(t, err, out)
	require.Contains(t, out, "#16 alice: line\n#17 alice: line\n")
	require.NotContains(t, out, "#15 ")
}

func TestChatRefusals(t *testing.T) {
	n := newNode(t)
	n.serve(t)
	key := n.env[1:2]
	bob := n.user(t, "bob")
	for name, c := range map[string]struct {
		env  []string
		args []string
		says string
	}{
		"nobody":      {key, []string{"--with", "bob"}, "--as"},
		"with nobody": {key, []string{"--as", "alice"}, "--with"},
		"oneself":     {key, []string{"--as", "alice", "--with", "alice"}, "yourself"},
		"other token": {[]string{"PARLEY_TOKEN=" + bob}, []string{"--as", "alice", "--with", "carol"}, "for bob"},
		"no token":    {[]string{"PARLEY_TOKEN=x"}, []string{"--with", "alice"}, "no token"},
		"bad token":   {[]string{"PARLEY_TOKEN=" + bob[:len(bob)-8] + "AAAAAAAA"}, []string{"--with", "alice"}, "signature"},
		"no key":      {nil, []string{"--as", "alice", "--with", "bob"}, "admin key"},
		"wrong key":   {[]string{"PARLEY_ADMIN_KEY=" + strings.Repeat("x", 32)}, []string{"--as", "alice", "--with", "bob"}, "API key"},
		"no session":  {key, []string{"--as", "alice", "--session", "01890a5d-ac96-774b-bcce-b302099a8057"}, "no such session"},
		"no UUID":     {key, []string{"--as", "alice", "--session", "x"}, "no UUID"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := once(t, c.env, n.client(append([]string{"chat"}, c.args...)...)...)
			require.Error(t, err)
			require.Contains(t, out, c.says)
			require.NotContains(t, out, bob)
		})
	}

	stranger := start(t, key, n.client("chat", "--as", "alice", "--with", "nobody")...)
	stranger.say(t, "hello?")
	stranger.out.wait(t, "* not sent: ")
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
	require.Contains(t, out, "#1 alice: kept\n")
	second.signal(t, syscall.SIGTERM)
	require.NoError(t, second.end(t))
}
