// Package proc reads from /proc what processes and their children take: processor time and memory.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc: Linux has 100 per second on all machines that Go runs on.
const tick = 10 * time.Millisecond

// stat is what /proc/PID/stat says.
type stat struct {
	parent int
	cpu    time.Duration // own, and of children that have ended
}

func readStat(pid int) (s stat, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return s, err
	}
	// The name, in parentheses, may hold anything; what follows are numbers from the third field on.
	at := bytes.LastIndexByte(text, ')')
	if at < 0 {
		return s, fmt.Errorf("/proc/%d/stat is not as expected", pid)
	}
	fields := strings.Fields(string(text[at+1:]))
	const parent, utime, cstime = 1, 11, 14
	if len(fields) <= cstime {
		return s, fmt.Errorf("/proc/%d/stat is not as expected", pid)
	}
	if s.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return s, err
	}
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return s, err
		}
		s.cpu += time.Duration(n) * tick
	}
	return s, nil
}

// CPU returns the processor time so far of each process with its descendants, in the order of roots; 0 for a root of 0.
// Children that have ended count with their parents, so that nothing is lost when a PostgreSQL backend goes.
func CPU(roots ...int) ([]time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all := make(map[int]stat)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil { // one that has ended just now is in its parent's figures
			all[pid] = s
		}
	}
	out := make([]time.Duration, len(roots))
	for pid, s := range all {
		for i, root := range roots {
			if root > 0 && below(all, pid, root) {
				out[i] += s.cpu
			}
		}
	}
	return out, nil
}

func below(all map[int]stat, pid, root int) bool {
	for range 64 { // deeper than any tree of ours
		if pid == root {
			return true
		}
		s, ok := all[pid]
		if !ok || s.parent <= 1 {
			return false
		}
		pid = s.parent
	}
	return false
}

// RSS returns the resident memory of one process in bytes.
func RSS(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("the kernel does not say how much memory a process has")
}

// Parent returns the process that started one, such as the postmaster of a PostgreSQL backend.
func Parent(pid int) (int, error) {
	s, err := readStat(pid)
	return s.parent, err
}

// Listener returns the process of this machine that listens on a TCP port, 0 if it is not to be found, as with a process
// of another user.
func Listener(port int) int {
	inode := ""
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table) //nolint:gosec // one of these two
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			const listening = "0A"
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inode = "socket:[" + f[9] + "]"
			}
		}
	}
	if inode == "" {
		return 0
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == inode {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2]) // the pattern has digits there
			return pid
		}
	}
	return 0
}
