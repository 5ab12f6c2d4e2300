package report

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// ThisMachine describes where the bench runs. What cannot be found out stays empty.
func ThisMachine() Machine {
	m := Machine{CPU: after("/proc/cpuinfo", "model name"), Cores: runtime.GOMAXPROCS(0), Go: runtime.Version(),
		Kernel: line("/proc/sys/kernel/ostype") + " " + line("/proc/sys/kernel/osrelease"), LoadBefore: line("/proc/loadavg")}
	if f := strings.Fields(m.LoadBefore); len(f) >= 3 {
		m.LoadBefore = strings.Join(f[:3], " ")
	}
	kb, err := strconv.ParseFloat(strings.TrimSuffix(after("/proc/meminfo", "MemTotal"), " kB"), 64)
	if err == nil {
		m.MemoryGiB = kb / (1 << 20)
	}
	return m
}

func line(path string) string {
	text, err := os.ReadFile(path) //nolint:gosec // paths of this file
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// after returns what follows "name:" in the first line that begins with it.
func after(path, name string) string {
	for l := range strings.Lines(line(path)) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
