package e2e

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/e2e/rig"
)

// lag tells for how long the machine kept everything from going on, beside what a test is about: a sleep that ends late, a
// commit of PostgreSQL's that takes long, a node that does not say that it lives. By so much a good server is late too.
type lag struct {
	mu     sync.Mutex
	spans  []stretch
	open   map[int]time.Time // by probe, when the one under way began
	cancel context.CancelFunc
	all    sync.WaitGroup
}

type stretch struct{ from, to time.Time }

// lagLeast is what a probe may take without counting: some hundred times what it takes at rest.
const lagLeast = 200 * time.Millisecond

// watchLag watches until the test ends. postgres is the database that the nodes use; what is not there when it is asked, since
// the test took it away, does not count.
func watchLag(t *testing.T, postgres string, nodes ...*rig.Server) *lag {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &lag{open: map[int]time.Time{}, cancel: cancel}
	conn, err := pgx.Connect(t.Context(), postgres)
	require.NoError(t, err)
	t.Cleanup(func() { l.stop(); _ = conn.Close(context.Background()) })
	l.watch(ctx, func() { pause(ctx, lagLeast/10) })
	l.watch(ctx, func() { _, _ = conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'lag', '')") }) // written and flushed
	for _, n := range nodes {
		l.watch(ctx, func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.OpsURL+"/healthz", http.NoBody)
			if err != nil {
				return
			}
			if res, err := http.DefaultClient.Do(req); err == nil {
				_ = res.Body.Close()
			}
		})
	}
	return l
}

// stop ends the watch; what was seen stays.
func (l *lag) stop() { l.cancel(); l.all.Wait() }

func (l *lag) watch(ctx context.Context, probe func()) {
	l.mu.Lock()
	n := len(l.open)
	l.open[n] = time.Now()
	l.mu.Unlock()
	l.all.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			l.mu.Lock()
			l.open[n] = began
			l.mu.Unlock()
			probe()
			l.mu.Lock()
			l.open[n] = time.Time{}
			if now := time.Now(); now.Sub(began) > lagLeast {
				l.spans = append(l.spans, stretch{began, now})
			}
			l.mu.Unlock()
			pause(ctx, lagLeast/4)
		}
	})
}

// since is for how long nothing went on after a time, over all probes: what several noticed counts for each.
func (l *lag) since(from time.Time) (sum time.Duration) {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, spans := time.Now(), l.spans
	for _, began := range l.open {
		if !began.IsZero() && now.Sub(began) > lagLeast {
			spans = append(spans[:len(spans):len(spans)], stretch{began, now})
		}
	}
	for _, s := range spans {
		if s.from.Before(from) {
			s.from = from
		}
		sum += max(0, s.to.Sub(s.from))
	}
	return sum
}

// A pause of everything counts as long as it took, over and under way, and what is quick does not.
func TestLagIsSeen(t *testing.T) {
	l := &lag{open: map[int]time.Time{}}
	at := time.Now()
	l.spans = []stretch{{at.Add(-10 * time.Second), at.Add(-6 * time.Second)}, {at.Add(-3 * time.Second), at.Add(-2 * time.Second)}}
	l.open[0], l.open[1] = at.Add(-20*time.Second), time.Time{}
	require.InDelta(t, 25, l.since(at.Add(-time.Hour)).Seconds(), 60)
	require.GreaterOrEqual(t, l.since(at.Add(-time.Hour)), 25*time.Second)
	l.open[0] = time.Time{}
	require.Equal(t, 3*time.Second, l.since(at.Add(-8*time.Second)))
	require.Zero(t, l.since(at))
}
