package app

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

// holdALock makes another goroutine wait for a lock for some milliseconds.
func holdALock(t *testing.T) {
	t.Helper()
	var mu sync.Mutex
	mu.Lock()
	waiting := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		close(waiting)
		mu.Lock()
		defer mu.Unlock()
	})
	<-waiting
	time.Sleep(5 * time.Millisecond) // the other one waits that long
	mu.Unlock()
	done.Wait()
}

func TestContention(t *testing.T) {
	clock := clockwork.NewFakeClock()
	c := &contention{clock: clock}
	get := func(query string) (code int, text string) {
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/contention"+query, nil))
		return w.Code, w.Body.String()
	}
	holdALock(t) // before: not to be seen
	var code int
	var text string
	var made sync.WaitGroup
	made.Go(func() { code, text = get("?for=3s") })
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
	busy, _ := get("")
	require.Equal(t, http.StatusConflict, busy)
	holdALock(t)
	clock.Advance(3 * time.Second)
	made.Wait()
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, "waiting for locks, by who held them")
	require.Contains(t, text, "app.holdALock", "who held the lock, and who waited")

	for _, wrong := range []string{"?for=x", "?for=-1s", "?for=0s", "?for=2m"} {
		code, _ := get(wrong)
		require.Equal(t, http.StatusBadRequest, code, wrong)
	}
}
