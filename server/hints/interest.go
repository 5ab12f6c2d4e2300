package hints

import (
	"sync"

	"github.com/google/uuid"
)

// interest is what this node wants to hear, by link. The hub tells it under its locks, so nothing in here waits.
type interest struct {
	links int

	mu     sync.Mutex
	wanted []map[string]struct{} // by link: channel names
	fresh  []map[string]struct{} // by link: wanted, and not yet asked for
	wake   []chan struct{}
}

func newInterest(links int) *interest {
	in := &interest{links: links}
	for range links {
		in.wanted = append(in.wanted, make(map[string]struct{}))
		in.fresh = append(in.fresh, make(map[string]struct{}))
		in.wake = append(in.wake, make(chan struct{}, 1))
	}
	return in
}

// WantSession implements hub.Interest.
func (in *interest) WantSession(id uuid.UUID, here bool) { in.set(sessionChannel(id), here) }

// WantUser implements hub.Interest.
func (in *interest) WantUser(id string, here bool) { in.set(userChannel(id), here) }

// WantPresence says whether somebody here watches a user.
func (in *interest) WantPresence(id string, here bool) { in.set(presenceChannel(id), here) }

func (in *interest) set(c Channel, here bool) {
	l := c.Bucket % in.links
	in.mu.Lock()
	defer in.mu.Unlock()
	if !here {
		delete(in.wanted[l], c.Name)
		delete(in.fresh[l], c.Name)
		return
	}
	in.wanted[l][c.Name] = struct{}{}
	in.fresh[l][c.Name] = struct{}{}
	select {
	case in.wake[l] <- struct{}{}:
	default:
	}
}

// takeFresh returns at most n channels that are to be subscribed to.
func (in *interest) takeFresh(link, n int) (names []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for name := range in.fresh[link] {
		if len(names) == n {
			break
		}
		names = append(names, name)
		delete(in.fresh[link], name)
	}
	return names
}

// again makes all that a link wants fresh: it has a new connection.
func (in *interest) again(link int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for name := range in.wanted[link] {
		in.fresh[link][name] = struct{}{}
	}
}

// unwanted returns which of the names nobody wants any more.
func (in *interest) unwanted(link int, have map[string]struct{}) (names []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for name := range have {
		if _, ok := in.wanted[link][name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// channels is how many channels are wanted.
func (in *interest) channels() (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, m := range in.wanted {
		n += len(m)
	}
	return n
}
