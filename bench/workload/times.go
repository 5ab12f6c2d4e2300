package workload

import (
	"syscall"
	"time"

	"github.com/parley-im/parley/bench/proc"
	"github.com/parley-im/parley/bench/report"
)

// times are processor times at one moment.
type times struct {
	server, load, postgres, redis time.Duration
	machine                       proc.Times
	at                            time.Time
}

// times reads what the processes took so far. server is the process that is measured.
func (b *Bench) times(server int) (t times, err error) {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return t, err
	}
	cpu, err := proc.CPU(server, b.stack.PIDs.Postgres, b.stack.PIDs.Redis)
	if err != nil {
		return t, err
	}
	machine, err := proc.Machine()
	if err != nil {
		return t, err
	}
	load := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	return times{server: cpu[0], load: load, postgres: cpu[1], redis: cpu[2], machine: machine, at: time.Now()}, nil
}

// per returns the time between two moments per operation, in microseconds.
func per(from, to times, operations int64) report.CPU {
	us := func(d time.Duration) float64 {
		return float64(d) / float64(time.Microsecond) / float64(max(operations, 1))
	}
	return report.CPU{Server: us(to.server - from.server), Load: us(to.load - from.load), Postgres: us(to.postgres - from.postgres),
		Redis: us(to.redis - from.redis)}
}

// shares returns what the machine's processors did between two moments beside what is measured, as shares of all their time.
func shares(from, to times) report.Shares {
	used := to.server + to.load + to.postgres + to.redis - from.server - from.load - from.postgres - from.redis
	busy, stolen, idle := to.machine.Busy-from.machine.Busy, to.machine.Stolen-from.machine.Stolen, to.machine.Idle-from.machine.Idle
	all := float64(max(busy+stolen+idle, 1))
	// Ticks are counted for each process and for the machine apart, so that nothing may come out as less than nothing.
	return report.Shares{Others: max(0, float64(busy-used)/all), Stolen: float64(stolen) / all, Idle: float64(idle) / all}
}
