package dev

import (
	"context"
	"os/exec"
	"syscall"
)

// Program is a program that this process started and that must not outlive it: on Linux the kernel asks it to end
// (SIGTERM) when this process dies, however that happens. It is in a process group of its own, so that Ctrl-C reaches this
// process only. Safe for concurrent use.
type Program struct{ run *child }

// StartProgram starts cmd, which must not have been started.
func StartProgram(cmd *exec.Cmd) (*Program, error) {
	run, err := startChild(cmd, account{}, syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	return &Program{run}, nil
}

// PID is its process id.
func (p *Program) PID() int { return p.run.pid }

// Exited is closed when it has ended, for whatever reason.
func (p *Program) Exited() <-chan struct{} { return p.run.exited }

// Err is how it ended, nil for a clean end; only after Exited.
func (p *Program) Err() error { return p.run.err }

// Stop asks it to end and waits until it has. When ctx is over first it is killed, and ctx's cause returned.
func (p *Program) Stop(ctx context.Context) error {
	if err := p.run.signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := p.run.wait(ctx)
	if err == nil {
		return nil
	}
	_ = p.run.signal(syscall.SIGKILL)
	<-p.run.exited
	return err
}
