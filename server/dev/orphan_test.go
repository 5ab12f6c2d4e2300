//go:build linux

package dev_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev"
)

func TestServersDieWithAKilledParent(t *testing.T) {
	slow(t)
	dir := openDir(t)
	self, err := os.Executable()
	require.NoError(t, err)
	helper := exec.CommandContext(t.Context(), self)
	helper.Env = append(os.Environ(), helperDir+"="+dir)
	helper.Stderr = os.Stderr
	out, err := helper.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, helper.Start())

	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	var postgres, redis int
	_, err = fmt.Sscanf(line, "started %d %d", &postgres, &redis)
	require.NoError(t, err, "the helper said %q", line)
	require.False(t, gone(postgres))

	require.NoError(t, helper.Process.Signal(syscall.SIGKILL))
	require.Error(t, helper.Wait(), "killed")
	require.Eventually(t, func() bool { return gone(postgres) }, patience, 10*time.Millisecond)
	if redis != 0 { // 0: this machine has no redis-server
		require.Eventually(t, func() bool { return gone(redis) }, patience, 10*time.Millisecond)
	}

	// Nobody is in the way of the next one.
	require.NoError(t, connect(t, startPostgres(t, dev.PostgresOptions{DataDir: dir}).URL()).Ping(t.Context()))
}
