package stream_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/stream"
)

// Users come to a group, are removed, and come back, now and then with its past shown, while what tells the node of it (the
// publisher, the feed) runs beside each other. A stream shows what the user may see, ascending, nothing twice, nothing left
// out of the present membership, and nothing else.
func TestComingBack(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
		w := newWorld(t, stream.Config{})
		id := group(w, "alice")
		d := w.subscribe(t, "bob", "b1", stream.Request{})
		d.caughtUp()
		sees := map[int64]bool{}
		open, in := false, int64(0)
		stop := make(chan struct{})
		var feed sync.WaitGroup
		feed.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				w.mu.Lock()
				head := int64(len(w.logs[id]))
				w.mu.Unlock()
				if n%3 > 0 {
					w.hub.Joined("bob", id)
				}
				w.hub.Advance(id, head)
				for range n % 7 {
					runtime.Gosched()
				}
			}
		})
		head := int64(0)
		for range 60 {
			was := in
			switch n := rng.IntN(8); {
			case n < 3:
				head = w.send(id, "alice", "a1", "hi")
			case n == 3:
				open = !open
				w.mu.Lock()
				w.past = open
				w.mu.Unlock()
			case in == 0:
				head = w.join(id, "bob")
				in = head
				for seq := int64(1); open && seq < head; seq++ {
					sees[seq] = true
				}
			default:
				head = w.kick(id, "bob")
				in = 0
			}
			if was > 0 || in > 0 {
				sees[head] = true
			}
			for range rng.IntN(5) {
				runtime.Gosched()
			}
		}
		close(stop)
		feed.Wait()
		w.hub.Joined("bob", id)
		if in == 0 {
			head = w.join(id, "bob")
			in = head
			sees[head] = true
			for seq := int64(1); open && seq < head; seq++ {
				sees[seq] = true
			}
		}
		head = w.send(id, "alice", "a1", "last")
		sees[head] = true
		t.Logf("seed %d head %d in %d", seed, head, in)
		got := d.until(id, head)
		for i, seq := range got {
			require.True(t, sees[seq], "seed %d: %d of %v", seed, seq, got)
			require.True(t, i == 0 || got[i-1] < seq, "seed %d: %d after %d in %v", seed, seq, got[max(i-1, 0)], got)
		}
		for seq := in; seq <= head; seq++ {
			require.Contains(t, got, seq, "seed %d: %v", seed, got)
		}
		d.stop()
		<-d.done
	}
}

