package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
)

var nodeLine = regexp.MustCompile(`(?m)^  node (\d)   pid (\d+)`)

// parley cluster brings three nodes that chat as one. Each of them is killed in turn, so that every device loses its node
// at least once, and the chat goes on without a loss.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL and three nodes of its own")
	}
	data, addr := testenv.DataDir(t), freeAddr(t)
	r := start(t, []string{"PARLEY_LISTEN=" + addr, "PARLEY_DATA_DIR=" + data, "PARLEY_DRAIN_TIMEOUT=2m"}, "cluster", "--revive", "1s")
	r.out.wait(t, "bin/parley chat --as bob")
	found := nodeLine.FindAllStringSubmatch(r.out.String(), -1)
	require.Len(t, found, 3)

	chat := func(as, with string) *running {
		return start(t, nil, "chat", "--server", "http://"+addr, "--data-dir", data, "--as", as, "--with", with)
	}
	alice, bob := chat("alice", "bob"), chat("bob", "alice")
	said := 0
	talk := func() {
		for range 3 {
			said++
			alice.say(t, fmt.Sprintf("line %d", said))
			bob.out.wait(t, fmt.Sprintf("alice: line %d\n", said))
			bob.say(t, fmt.Sprintf("reply %d", said))
			alice.out.wait(t, fmt.Sprintf("bob: reply %d\n", said))
		}
	}
	talk()
	for _, node := range found {
		pid, err := strconv.Atoi(node[2])
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		r.out.wait(t, fmt.Sprintf("node %s (pid %d) ended", node[1], pid))
		talk()
		r.out.wait(t, fmt.Sprintf("node %s runs again", node[1]))
		talk()
	}
	for n := 1; n <= said; n++ {
		require.Equal(t, 1, strings.Count(bob.out.String(), fmt.Sprintf("alice: line %d\n", n)))
		require.Equal(t, 1, strings.Count(alice.out.String(), fmt.Sprintf("bob: reply %d\n", n)))
	}
	for _, c := range []*running{alice, bob} {
		require.NoError(t, c.in.Close())
		require.NoError(t, c.end(t))
	}
	r.signal(t, os.Interrupt)
	require.NoError(t, r.end(t))
	for _, pid := range regexp.MustCompile(`pid (\d+)`).FindAllStringSubmatch(r.out.String(), -1) {
		n, err := strconv.Atoi(pid[1])
		require.NoError(t, err)
		if errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			continue
		}
		runs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", n)) // the number may be another process's by now
		require.True(t, err != nil || runs != program, "a node was left behind")
	}
}

func TestClusterRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"--nodes", "0"}, {"--nodes", "10"}, {"--revive", "-1s"}} {
		out, err := once(t, nil, append([]string{"cluster"}, args...)...)
		require.Error(t, err)
		require.Contains(t, out, "--nodes is 1 to 9")
	}
}
