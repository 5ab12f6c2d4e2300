package proc

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"
)

// Times is what all processors of the machine did so far, added up.
type Times struct {
	// Busy is the time of all processes and of the kernel, its own threads included.
	Busy time.Duration
	// Stolen is what the machine below took from a virtual one: its processors had work and did not run.
	Stolen time.Duration
	Idle   time.Duration
}

// Machine returns what the machine's processors did since it started.
func Machine() (t Times, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	// proc(5): user, nice, system, idle, waiting for a disk, interrupts, soft interrupts, stolen; guests count as user.
	const idle, waiting, stolen = 3, 4, 7
	if len(fields) <= stolen+1 || fields[0] != "cpu" {
		return t, errors.New("/proc/stat is not as expected")
	}
	for i, f := range fields[1 : stolen+2] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return t, err
		}
		switch d := time.Duration(n) * tick; i {
		case idle, waiting:
			t.Idle += d
		case stolen:
			t.Stolen += d
		default:
			t.Busy += d
		}
	}
	return t, nil
}
