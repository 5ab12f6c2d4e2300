package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/e2e/rig"
)

// before is what the commands of docs/rest.md run after: the server of the test, and a stream that is read until it has
// caught up, however long that takes here, rather than for two seconds.
const before = `set -euo pipefail
type jq >/dev/null 2>&1 || jq() { grep -o '"sessionId": *"[^"]*"' | head -1 | cut -d'"' -f4; }
curl() {
  if [ "$1 $2" != "-sN -m" ]; then command curl "$@"; return; fi
  shift 3
  command curl -sN -m 120 "$@" | while IFS= read -r line; do
    printf '%s\n' "$line"
    case $line in *caughtUp*) break ;; esac
  done
}
`

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestCommandsOfTheRESTDocs runs docs/rest.md as it stands, all of it in its order.
func TestCommandsOfTheRESTDocs(t *testing.T) {
	for _, needed := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(needed); err != nil {
			t.Skip("needs " + needed)
		}
	}
	if _, err := os.Stat("/proc/sys/kernel/random/uuid"); err != nil {
		t.Skip("needs Linux")
	}
	s := rig.Start(t, "PARLEY_HEARTBEAT=500ms") // soon after it stops reading, curl sees that nobody takes what it reads
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "rest.md"))
	require.NoError(t, err)
	script := strings.Builder{}
	script.WriteString(before)
	for _, block := range shellBlock.FindAllStringSubmatch(string(raw), -1) {
		script.WriteString(block[1])
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".data"), 0o700))
	key := strings.ReplaceAll(rig.AdminKey, " ", "-")
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".data", "admin.key"), []byte(key+"\n"), 0o600))

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", strings.ReplaceAll(script.String(), "http://127.0.0.1:8080", s.URL)) //nolint:gosec // our own docs
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ALICE="+s.Token("alice", "terminal"), "BOB="+s.Token("bob", "terminal"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	said := string(out)

	// Nothing is refused but what "When it fails" shows.
	require.Equal(t, 1, strings.Count(said, `"code":`), said)
	require.Regexp(t, `ERROR_REASON_SESSION_UNAVAILABLE.*403\s*$`, said)
	require.Regexp(t, `(?m)^304$`, said)
	require.Contains(t, said, `"presences":`)
	require.Contains(t, said, `"epoch":`)
	// The stream that goes on shows what was written meanwhile, and nothing of before.
	_, on, found := strings.Cut(said, "data: ")
	require.True(t, found, said)
	require.Equal(t, 1, strings.Count(on, `{"message":{`), on)
	require.Contains(t, on, `"meanwhile"`)
	past, err := os.ReadFile(filepath.Join(dir, "stream.txt"))
	require.NoError(t, err)
	require.Contains(t, string(past), `"train?"`)
	require.NotContains(t, string(past), `"meanwhile"`)
}
