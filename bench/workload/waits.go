package workload

import (
	"context"
	_ "embed"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed sql/waits.sql
var waitsSQL string

// waitsEvery is how often PostgreSQL's backends are looked at.
const waitsEvery = 50 * time.Millisecond

// waits are samples of what PostgreSQL's busy backends wait for.
type waits struct {
	seen  map[string]float64 // by wait event
	looks float64
}

// share returns what part of the busy backends was seen at each wait event, nil where none was seen.
func (w waits) share() map[string]float64 {
	sum := 0.0
	for _, n := range w.seen {
		sum += n
	}
	if sum == 0 {
		return nil
	}
	out := make(map[string]float64, len(w.seen))
	for name, n := range w.seen {
		out[name] = n / sum
	}
	return out
}

// busy is how many backends were doing something, on the average.
func (w waits) busy() float64 {
	sum := 0.0
	for _, n := range w.seen {
		sum += n
	}
	return sum / max(1, w.looks)
}

// sampleWaits looks at PostgreSQL's backends until the returned function is called, which must be called once. Without the
// database's URL there is nothing to see.
func (b *Bench) sampleWaits(ctx context.Context) (stop func() (waits, error), err error) {
	w := waits{seen: make(map[string]float64)}
	if b.stack.PostgresURL() == "" {
		return func() (waits, error) { return w, nil }, nil
	}
	conn, err := pgx.Connect(ctx, b.stack.PostgresURL())
	if err != nil {
		return nil, err
	}
	over, done := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(waitsEvery)
		defer tick.Stop()
		for {
			select {
			case <-over:
				done <- conn.Close(context.WithoutCancel(ctx))
				return
			case <-tick.C:
			}
			if err := w.look(ctx, conn); err != nil {
				done <- errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
				return
			}
		}
	}()
	return func() (waits, error) {
		close(over)
		err := <-done
		return w, err
	}, nil
}

func (w *waits) look(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, waitsSQL)
	if err != nil {
		return err
	}
	var name string
	var n float64
	w.looks++
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		w.seen[name] += n
		return nil
	})
	return err
}
