package webhook

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

// example returns the code block of docs/webhooks.md in a language that listens, with another port.
func example(t *testing.T, language, port string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "webhooks.md"))
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(raw), -1) {
		if strings.Contains(block[1], "9000") {
			return strings.ReplaceAll(block[1], "9000", port)
		}
	}
	t.Fatalf("docs/webhooks.md has no receiver in %s", language)
	return ""
}

// The receivers of docs/webhooks.md run as they stand there: they take what Parley signs and nothing else.
func TestReceiversOfTheDocs(t *testing.T) {
	for language, build := range map[string]func(dir, code string) *exec.Cmd{
		"go": func(dir, code string) *exec.Cmd {
			source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "receiver")
			require.NoError(t, os.WriteFile(source, []byte(code), 0o600))
			out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, source).CombinedOutput()
			require.NoError(t, err, "%s", out)
			return exec.CommandContext(t.Context(), program)
		},
		"js": func(dir, code string) *exec.Cmd {
			source := filepath.Join(dir, "receiver.mjs")
			require.NoError(t, os.WriteFile(source, []byte(code), 0o600))
			node, err := exec.LookPath("node")
			if err != nil {
				t.Skip("needs node")
			}
			return exec.CommandContext(t.Context(), node, source)
		},
	} {
		t.Run(language, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			addr := ln.Addr().String()
			_, port, err := net.SplitHostPort(addr)
			require.NoError(t, err)
			require.NoError(t, ln.Close())
			cmd := build(t.TempDir(), example(t, language, port))
			var said bytes.Buffer
			cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "WEBHOOK_SECRET="+vectorSecret), &said, &said
			require.NoError(t, cmd.Start())
			done := make(chan struct{})
			go func() { _ = cmd.Wait(); close(done) }()
			t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })

			w, sealer := hook(t, "http://"+addr+"/parley")
			s := NewSender(loopback(t), sealer, clockwork.NewRealClock(), "test")
			t.Cleanup(s.Close)
			post := func(w Webhook, body string) Attempt {
				a, _ := s.Post(context.Background(), w, uuid.New(), []byte(body), false)
				return a
			}
			require.Eventually(t, func() bool { return post(w, `{"type":"webhook.test"}`).Error == "" }, time.Minute, 20*time.Millisecond, "it takes nothing")
			require.Equal(t, http.StatusNoContent, post(w, `{"type":"message.created","data":{"x":"é"}}`).Status)
			forged := w
			forged.Secret = sealer.Seal(newSecret())
			require.Equal(t, http.StatusUnauthorized, post(forged, `{}`).Status)
			rotated, until := forged, time.Now().Add(time.Hour)
			rotated.OldSecret, rotated.OldSecretUntil = w.Secret, &until
			require.Equal(t, http.StatusNoContent, post(rotated, `{}`).Status, "signed with both secrets")
			stale := NewSender(loopback(t), sealer, clockwork.NewFakeClockAt(time.Now().Add(-time.Hour)), "test")
			t.Cleanup(stale.Close)
			a, _ := stale.Post(context.Background(), w, uuid.New(), []byte(`{}`), false)
			require.Equal(t, http.StatusUnauthorized, a.Status, "an old request that somebody repeats")
			res, err := http.Post("http://"+addr+"/parley", "application/json", strings.NewReader(`{}`)) //nolint:noctx // local
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, http.StatusUnauthorized, res.StatusCode)
		})
	}
}
