package limit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Command is the subcommand of the parley program that runs a bare server; its argument is the kind.
const Command = "bench-limit"

// Kinds of bare servers.
const (
	Fan  = "fan"
	Hold = "hold"
)

// Serve runs a bare server of a kind until in ends.
func Serve(ctx context.Context, kind string, in io.Reader, out io.Writer) error {
	switch kind {
	case Fan:
		return ServeFan(ctx, in, out)
	case Hold:
		return ServeHold(ctx, in, out)
	default:
		return fmt.Errorf("no bare server is called %q", kind)
	}
}

// Server is a bare server in a process of its own.
type Server struct {
	Addr string
	PID  int
	cmd  *exec.Cmd
	in   io.WriteCloser
}

// Start starts the bare server that command runs.
func Start(ctx context.Context, command []string) (*Server, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...) //nolint:gosec // our own program
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the bare server: %w", err)
	}
	s := &Server{PID: cmd.Process.Pid, cmd: cmd, in: in}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the bare server says no address: %w", err), s.Stop())
	}
	s.Addr = strings.TrimSpace(line)
	return s, nil
}

// Write orders a fan to write one response of count entries to every connection.
func (s *Server) Write(count int, stamp time.Time) error {
	_, err := fmt.Fprintf(s.in, "%d %d\n", count, stamp.UnixNano())
	return err
}

// Stop ends the server and waits for it.
func (s *Server) Stop() error {
	if err := s.in.Close(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("the bare server did not end"), s.cmd.Process.Kill(), <-done)
	}
}
