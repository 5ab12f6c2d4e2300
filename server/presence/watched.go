package presence

import (
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// watched is a user that somebody here watches.
type watched struct {
	by   map[deviceKey]bool // by watcher: whether it was told since it began to watch
	told Presence
	on   []string  // nodes that what was told rests on
	was  bool      // online, when last looked at or as given to a watcher
	seen time.Time // when last, where that is known and the user is not
}

// given notes what a new watcher was given, which the store said: it knows since when a user is offline who was so before
// anybody here watched them.
func (w *watched) given(p *parleyv1.Presence) {
	switch at := p.GetLastSeenAt(); {
	case p.GetIsOnline():
		w.was = true
	case at != nil && at.AsTime().After(w.seen):
		w.seen = at.AsTime()
	}
}

// looked notes whether the user is online now, and returns when they were last if they are not; zero: nobody knows.
func (w *watched) looked(online bool, now time.Time) time.Time {
	if w.was && !online {
		w.seen = now
	}
	if w.was = online; online {
		return time.Time{}
	}
	return w.seen
}
