package contract

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// call is one thing that a device is to do.
type call struct {
	ID     int64          `json:"id"`
	Device string         `json:"device"`
	Do     string         `json:"do"`
	With   map[string]any `json:"with,omitempty"`
}

// answer is what came of a call: one of three.
type answer struct {
	ID      int64           `json:"id"`
	OK      json.RawMessage `json:"ok"`
	Refused *refusal        `json:"refused"` // by the server, or by the SDK with a reason of its own
	Failed  string          `json:"failed"`  // the runner itself failed
}

type refusal struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// runner works devices of one language.
type runner interface {
	// work has a device do something and returns its answer. Calls of different devices may run at once.
	work(ctx context.Context, c call) (answer, error)
}

// process is a runner in another language: a program that reads calls as lines of JSON and writes answers as such.
type process struct {
	in      io.WriteCloser
	mu      sync.Mutex
	last    int64
	waiting map[int64]chan answer
	ended   chan struct{}
}

// startProcess starts a runner; it ends with the test, by the end of its input, or is killed 10 s later.
func startProcess(t testing.TB, command ...string) *process {
	cmd := exec.CommandContext(context.Background(), command[0], command[1:]...) //nolint:gosec // our own programs
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	p := &process{in: in, waiting: map[int64]chan answer{}, ended: make(chan struct{})}
	go p.read(out)
	t.Cleanup(func() {
		_ = in.Close()
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		<-p.ended
		_ = cmd.Wait()
	})
	return p
}

func (p *process) read(out io.Reader) {
	defer close(p.ended)
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var a answer
		if json.Unmarshal(line, &a) != nil {
			fmt.Fprintf(os.Stderr, "not an answer: %s", line)
			continue
		}
		p.mu.Lock()
		to := p.waiting[a.ID]
		delete(p.waiting, a.ID)
		p.mu.Unlock()
		if to != nil {
			to <- a
		}
	}
}

func (p *process) work(ctx context.Context, c call) (answer, error) {
	to := make(chan answer, 1)
	p.mu.Lock()
	p.last++
	c.ID = p.last
	p.waiting[c.ID] = to
	line, err := json.Marshal(c)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	select {
	case a := <-to:
		return a, nil
	case <-p.ended:
		return answer{}, io.ErrUnexpectedEOF
	case <-ctx.Done():
		return answer{}, fmt.Errorf("no answer to %s: %w", line, ctx.Err())
	}
}
