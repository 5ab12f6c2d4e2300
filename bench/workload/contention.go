package workload

import (
	"context"
	"errors"
	"time"

	"github.com/parley-im/parley/bench/report"
)

// contentionFor is how long the server's profiles of contention are on.
const contentionFor = 3 * time.Second

// contention keeps what the server's goroutines waited for while load ran, which takes the warm-up and the duration of a
// case. It is measured where the server is the bench's own, whose admin listener is known.
func (b *Bench) contention(ctx context.Context, workload, name string, load func() error) error {
	if !b.stack.Owned() {
		return nil
	}
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	asked, cancel := context.WithTimeout(ctx, b.cfg.stretch()+contentionFor+time.Minute)
	defer cancel()
	go func() {
		if err := pause(asked, b.cfg.Warmup); err != nil {
			got <- answer{err: err}
			return
		}
		text, err := b.stack.Contention(asked, min(contentionFor, b.cfg.Duration))
		got <- answer{text, err}
	}()
	err := load()
	a := <-got
	if err := errors.Join(err, a.err); err != nil {
		return err
	}
	b.report.Contention = append(b.report.Contention, report.Contention{Workload: workload, Case: name, Text: a.text})
	return nil
}
