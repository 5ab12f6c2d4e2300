package dev

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal asks the kernel to send sig to the child when the thread that starts it dies. See prctl(2),
// PR_SET_PDEATHSIG; the syscall package sets it after the change of user, which would clear it.
func setDeathSignal(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// childrenOf returns the ids of pid's child processes at this moment, none if it cannot be told.
func childrenOf(pid int) []int {
	id := strconv.Itoa(pid)
	text, err := os.ReadFile("/proc/" + id + "/task/" + id + "/children")
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
