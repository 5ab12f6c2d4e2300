package proc_test

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/bench/proc"
)

func TestCPUCountsChildrenThatHaveEnded(t *testing.T) {
	t.Parallel()
	// A shell whose children count to something, and which then waits for the end of its input.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `i=0; (while [ $i -lt 300000 ]; do i=$((i+1)); done); echo done; read _`)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 16))
	require.NoError(t, err)
	cpu, err := proc.CPU(cmd.Process.Pid, 0)
	require.NoError(t, err)
	require.Positive(t, cpu[0])
	require.Zero(t, cpu[1])
	parent, err := proc.Parent(cmd.Process.Pid)
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), parent)
	rss, err := proc.RSS(cmd.Process.Pid)
	require.NoError(t, err)
	require.Positive(t, rss)
	require.NoError(t, in.Close())
	_ = cmd.Wait() // read found no line
	_, err = proc.RSS(cmd.Process.Pid)
	require.Error(t, err)
}

func TestListener(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr, ok := ln.Addr().(*net.TCPAddr)
	require.True(t, ok)
	port := addr.Port
	require.Equal(t, os.Getpid(), proc.Listener(port))
	require.NoError(t, ln.Close())
	require.Zero(t, proc.Listener(port))
}

// What this process does shows in what the machine does, however long that takes.
func TestMachine(t *testing.T) {
	t.Parallel()
	before, err := proc.Machine()
	require.NoError(t, err)
	require.Positive(t, before.Busy)
	require.Eventually(t, func() bool {
		after, err := proc.Machine()
		require.NoError(t, err)
		return after.Busy > before.Busy
	}, time.Minute, time.Millisecond)
}
