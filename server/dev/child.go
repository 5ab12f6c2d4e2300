package dev

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"syscall"
)

// child is a program that this process started and that ends with it.
//
// One goroutine owns it: it starts the program, waits for it and ends with it. All methods are safe for concurrent use.
type child struct {
	pid    int
	exited chan struct{} // closed once the program has ended and was collected
	err    error         // what Wait said; valid after exited is closed
}

// startChild starts cmd in a process group of its own, as account, and arranges that it gets deathSignal when this
// process dies, on systems that can do that.
//
// The kernel sends that signal when the starting *thread* dies, and Go ends threads at will, so the goroutine keeps its
// thread until the program has ended.
func startChild(cmd *exec.Cmd, as account, deathSignal syscall.Signal) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as.credential()}
	setDeathSignal(cmd.SysProcAttr, deathSignal)

	c := &child{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		close(c.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// signal sends sig to the program. A program that has ended already is not an error.
func (c *child) signal(sig syscall.Signal) error {
	select {
	case <-c.exited:
		return nil
	default:
	}
	if err := syscall.Kill(c.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// wait returns nil once the program has ended, however it did, or ctx's cause if that comes first.
func (c *child) wait(ctx context.Context) error {
	select {
	case <-c.exited:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// running tells whether the program has not been seen to end.
func (c *child) running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}
