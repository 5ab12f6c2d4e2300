// Package rig runs the real server for tests, as users run it: the program as a process of its own, spoken to over its
// public API only.
package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/dev"
	"github.com/parley-im/parley/server/dev/testenv"
)

// AdminKey is the admin key of all servers of the rig.
const AdminKey = "a key for tests, of no use anywhere else"

// Server is one node.
type Server struct {
	t           testing.TB
	PostgresURL string
	RedisURL    string
	URL         string // of the API
	OpsURL      string // of metrics and health
	env         []string

	mu  sync.Mutex
	cmd *exec.Cmd
	log *bytes.Buffer
	end chan struct{}
}

var build struct {
	sync.Once
	path string
	err  error
}

// binary builds the program once per test process.
func binary(t testing.TB) string {
	build.Do(func() {
		dir, err := os.MkdirTemp("", "parley-e2e-")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "parley")
		out, err := exec.CommandContext(context.Background(), "go", "build", "-o", build.path, "github.com/parley-im/parley/server/cmd/parley").CombinedOutput() //nolint:gosec // our own program
		if err != nil {
			build.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	require.NoError(t, build.err)
	return build.path
}

// RemoveBinary deletes what the rig built; for TestMain.
func RemoveBinary() {
	if build.path != "" {
		_ = os.RemoveAll(filepath.Dir(build.path))
	}
}

// Start runs a server on a fresh database. env are further settings, NAME=value.
func Start(t testing.TB, env ...string) *Server {
	t.Helper()
	return StartOn(t, testenv.PostgresURL(t), env...)
}

// StartOn runs a server on a database.
func StartOn(t testing.TB, postgres string, env ...string) *Server {
	t.Helper()
	api, ops := freeAddr(t), freeAddr(t)
	redis, _ := testenv.Redis(t)
	s := &Server{t: t, PostgresURL: postgres, RedisURL: redis, URL: "http://" + api, OpsURL: "http://" + ops}
	// As long for an answer as a busy machine needs; what a node does at its bounds is for tests that set others.
	s.env = append([]string{"PARLEY_UNARY_TIMEOUT=2m", "PARLEY_DRAIN_TIMEOUT=2m", "PARLEY_POSTGRES_WAIT=2m", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PARLEY_LISTEN=" + api, "PARLEY_ADMIN_LISTEN=" + ops,
		"PARLEY_POSTGRES_URL=" + postgres, "PARLEY_REDIS_URL=" + redis, "PARLEY_ADMIN_KEY=" + strings.ReplaceAll(AdminKey, " ", "-"),
		"PARLEY_SIGNING_KEY=" + filepath.Join(t.TempDir(), "signing.pem"), "PARLEY_LOG_LEVEL=info", "PARLEY_DRAIN_GRACE=0s"}, env...)
	s.Restart()
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("server's log, last lines:\n%s", s.tail(6000))
		}
	})
	return s
}

func freeAddr(t testing.TB) string {
	port, err := dev.FreePort(t.Context())
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// Restart starts the server (again) on the same addresses and data, and waits until it is ready.
func (s *Server) Restart() {
	s.t.Helper()
	cmd := exec.CommandContext(context.Background(), binary(s.t), "serve") //nolint:gosec // our own program
	cmd.Env = s.env
	out := &locked{}
	cmd.Stderr = out
	require.NoError(s.t, cmd.Start())
	end := make(chan struct{})
	go func() { _ = cmd.Wait(); close(end) }()
	s.mu.Lock()
	s.cmd, s.log, s.end = cmd, &out.buf, end
	s.mu.Unlock()
	require.Eventually(s.t, func() bool { return s.Ready() }, 3*time.Minute, 20*time.Millisecond, "not ready")
}

// locked is a buffer that a process writes and a test reads.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 8<<20 {
		l.buf.Reset()
	}
	return l.buf.Write(p)
}

func (s *Server) tail(n int) string {
	b := s.log.Bytes() // the process has ended
	return string(b[max(0, len(b)-n):])
}

// Log returns the log so far; only after the server has ended.
func (s *Server) Log() string { return s.tail(8 << 20) }

// Ready reports whether the server says that it is ready.
func (s *Server) Ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.OpsURL+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	return res.StatusCode == http.StatusOK
}

// Kill ends the server as a crash would, and waits for its end.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Stop asks the server to go down, and waits for its end.
func (s *Server) Stop() { s.signal(syscall.SIGTERM) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	cmd, end := s.cmd, s.end
	s.mu.Unlock()
	_ = cmd.Process.Signal(sig)
	select {
	case <-end:
	case <-time.After(3 * time.Minute): // longer than the node gives itself
		_ = cmd.Process.Kill()
		<-end
		s.t.Error("the server did not end")
	}
}

// Admin is a client of AdminService.
func (s *Server) Admin() parleyv1connect.AdminServiceClient {
	return parleyv1connect.NewAdminServiceClient(http.DefaultClient, s.URL, connect.WithInterceptors(bearer(strings.ReplaceAll(AdminKey, " ", "-")), Again()))
}

// Token mints a token, making user and device if they are new.
func (s *Server) Token(user, device string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := s.Admin().CreateToken(ctx, &parleyv1.CreateTokenRequest{UserId: user, DeviceId: device})
	require.NoError(s.t, err)
	return res.GetToken()
}

// Metric returns the sum of a metric's samples.
func (s *Server) Metric(name string) float64 { return s.MetricWith(name, "") }

// Goroutines counts the server's goroutines but for those with a function in their stacks whose name begins with without,
// and returns what all of them do.
func (s *Server) Goroutines(without string) (n int, profile string) {
	res, err := http.Get(s.OpsURL + "/debug/pprof/goroutine?debug=1") //nolint:noctx // local
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	all, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		var count int
		line := stack[strings.LastIndex(stack[:strings.Index(stack+" @ ", " @ ")], "\n")+1:]
		if _, err := fmt.Sscanf(line, "%d @", &count); err == nil && !strings.Contains(stack, "\t"+without) {
			n += count
		}
	}
	return n, string(all)
}

// MetricWith returns the sum of those samples of a metric that have a label, given as name="value"; empty takes all.
func (s *Server) MetricWith(name, label string) (sum float64) {
	res, err := http.Get(s.OpsURL + "/metrics") //nolint:noctx // local
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	require.NoError(s.t, err)
	for line := range strings.Lines(b.String()) {
		if (strings.HasPrefix(line, name+" ") || strings.HasPrefix(line, name+"{")) && strings.Contains(line, label) {
			var v float64
			if _, err := fmt.Sscanf(line[strings.LastIndex(line, " ")+1:], "%g", &v); err == nil {
				sum += v
			}
		}
	}
	return sum
}
