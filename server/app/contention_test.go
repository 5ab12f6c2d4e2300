package app

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
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
	var done sync.WaitGroup
	done.Go(func() {
		mu.Lock()
		defer mu.Unlock()
	})
	require.Eventually(t, waitsForALock, time.Minute, time.Millisecond, "nobody waits")
	time.Sleep(5 * time.Millisecond) // it waits that long
	mu.Unlock()
	done.Wait()
}

// waitsForALock reports whether holdALock's other goroutine has come to where it waits.
func waitsForALock() bool {
	stacks := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		head, calls, _ := strings.Cut(stack, "\n")
		if strings.Contains(head, "[sync.Mutex.Lock") && strings.Contains(calls, "app.holdALock.func") {
			return true
		}
	}
	return false
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
