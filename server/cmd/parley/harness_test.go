package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev"
	"github.com/parley-im/parley/server/dev/testenv"
)

// These tests run the program as its users do.

const (
	testKey  = "the-admin-key-of-these-tests-is-long"
	patience = 3 * time.Minute // also for a first start, which makes a database
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
		if t.Failed() && args[0] != "token" {
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
	port, err := dev.FreePort(t.Context()) // not one that an outgoing connection may get until it is used
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
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
	n.env = []string{"PARLEY_POSTGRES_URL=" + testenv.PostgresURL(t), "PARLEY_ADMIN_KEY=" + testKey, "PARLEY_LISTEN=" + n.addr, "PARLEY_DRAIN_GRACE=0s",
		"PARLEY_ADMIN_LISTEN=" + n.ops, "PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem"),
		"PARLEY_UNARY_TIMEOUT=2m", "PARLEY_DRAIN_TIMEOUT=2m", "PARLEY_POSTGRES_WAIT=2m"} // a busy machine may need them
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
	for end := time.Now().Add(patience); ; {
		out, err := once(t, n.env[1:2], n.client("token", "--user", user, "--device", "terminal")...)
		if err == nil {
			return strings.TrimSpace(out)
		}
		// The program waits for 10 s, which is not enough where the machine is busy with anything.
		require.Regexp(t, "deadline|UNAVAILABLE", out)
		require.True(t, time.Now().Before(end), out)
	}
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
