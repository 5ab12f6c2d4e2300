package presence

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

const (
	// Grace is how long a device stays online after its stream ended.
	Grace = 3 * time.Second
	// RefreshEvery is how often a node writes all its devices to the board and reads all whom it watches.
	RefreshEvery = 30 * time.Second
	// round is how often what was noted is done.
	round = 250 * time.Millisecond
	// atOnce is how many users one request to the board, or one round of asking again, names.
	atOnce = 500
)

type deviceKey struct{ userID, deviceID string }

// attended is a device that is here.
type attended struct {
	streams int  // none during its grace
	posted  bool // the board may know it as here
}

// Tracker is a node's part. Safe for concurrent use; Run must run.
type Tracker struct {
	board   Board // nil without Redis
	aud     Audience
	nodes   Nodes
	streams Streams
	clock   clockwork.Clock
	log     *slog.Logger

	mu      sync.Mutex
	here    map[string]map[string]attended // by user and device
	leaving map[deviceKey]time.Time        // devices in their grace: when it ends
	changes map[deviceKey]bool             // what the board does not know yet: who came, and of those it knows, who went
	watches map[deviceKey][]string         // by watching device
	by      map[string]*watched            // by watched user
	dirty   map[string]struct{}            // watched users to look at again
	doubted map[deviceKey]struct{}         // watches whose right is to be asked again

	refreshed time.Time // Run's own, as is alone
	alone     bool
}

// NewTracker returns a tracker that knows nobody; board may be nil.
func NewTracker(b Board, a Audience, n Nodes, s Streams, clock clockwork.Clock, log *slog.Logger) *Tracker {
	return &Tracker{board: b, aud: a, nodes: n, streams: s, clock: clock, log: log, here: make(map[string]map[string]attended),
		leaving: make(map[deviceKey]time.Time), changes: make(map[deviceKey]bool), watches: make(map[deviceKey][]string),
		by: make(map[string]*watched), dirty: make(map[string]struct{}), doubted: make(map[deviceKey]struct{}),
		refreshed: clock.Now(), alone: true}
}

// Online notes that a stream of a device came (true) or ended. A device's watch ends with its last stream.
func (t *Tracker) Online(userID, deviceID string, here bool) {
	k := deviceKey{userID, deviceID}
	t.mu.Lock()
	defer t.mu.Unlock()
	devices := t.here[userID]
	d, known := devices[deviceID]
	if !here {
		d.streams--
		if devices[deviceID] = d; d.streams == 0 {
			t.leaving[k] = t.clock.Now().Add(Grace)
			t.unwatch(k)
		}
		return
	}
	if devices == nil {
		devices = make(map[string]attended)
		t.here[userID] = devices
	}
	if !known {
		_, d.posted = t.changes[k] // it went, and the board has not heard of it
		t.changes[k] = true
		t.look(userID)
	}
	d.streams++
	devices[deviceID] = d
	delete(t.leaving, k)
}

// look notes that a user is to be looked at again, if somebody watches them. The lock is held.
func (t *Tracker) look(userID string) {
	if t.by[userID] != nil {
		t.dirty[userID] = struct{}{}
	}
}

// Look notes that a user's presence changed on another node.
func (t *Tracker) Look(userID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look(userID)
}

// Watch makes a device's stream tell the presence of users, as given now, in place of whom it told before.
func (t *Tracker) Watch(userID, deviceID string, now []*parleyv1.Presence) {
	if !t.streams.Has(userID, deviceID) {
		return
	}
	k := deviceKey{userID, deviceID}
	t.mu.Lock()
	t.unwatch(k)
	for _, p := range now {
		id := p.GetUserId()
		w := t.by[id]
		if w == nil {
			w = &watched{by: make(map[deviceKey]bool)}
			t.by[id] = w
			t.nodes.WantPresence(id, true)
		}
		w.given(p)
		w.by[k] = false
		t.watches[k] = append(t.watches[k], id)
		t.dirty[id] = struct{}{} // what was given may be older than what others were told
	}
	t.mu.Unlock()
	for _, p := range now {
		t.streams.NotifyDevice(userID, deviceID, event(p))
	}
}

// unwatch ends a device's watch. The lock is held.
func (t *Tracker) unwatch(k deviceKey) {
	for _, id := range t.watches[k] {
		t.unwatchOne(k, id)
	}
	delete(t.watches, k)
	delete(t.doubted, k)
}

// unwatchOne ends the watch of one user. The lock is held.
func (t *Tracker) unwatchOne(k deviceKey, userID string) {
	w := t.by[userID]
	delete(w.by, k)
	if len(w.by) == 0 {
		delete(t.by, userID)
		delete(t.dirty, userID)
		t.nodes.WantPresence(userID, false)
	}
}

// Doubt notes that relations of a user changed: who watches them, and whom they watch, is asked again.
func (t *Tracker) Doubt(userID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.by[userID]; w != nil {
		for k := range w.by {
			t.doubted[k] = struct{}{}
		}
	}
	for device := range t.here[userID] {
		k := deviceKey{userID, device}
		if len(t.watches[k]) > 0 {
			t.doubted[k] = struct{}{}
		}
	}
}

// Run does what was noted until ctx ends, and takes this node's devices off the board then.
func (t *Tracker) Run(ctx context.Context) {
	tick := t.clock.NewTicker(round)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.leave(ctx)
			return
		case <-tick.Chan():
			t.Round(ctx)
		}
	}
}

// Round does once what Run does all the time.
func (t *Tracker) Round(ctx context.Context) {
	t.expire()
	was := t.alone
	if t.alone = t.nodes.Alone(); was && !t.alone || t.clock.Since(t.refreshed) >= RefreshEvery {
		t.refreshed = t.clock.Now()
		t.refresh()
	}
	t.buried()
	t.tell(ctx)
	t.askAgain(ctx)
	t.show(ctx)
}

func event(p *parleyv1.Presence) *parleyv1.Event {
	return &parleyv1.Event{Kind: &parleyv1.Event_Presence{Presence: &parleyv1.PresenceEvent{Presence: p}}}
}

// Anywhere returns those of the users who have a live device on any node, or are in the grace of one, as far as this node
// knows: without a board, only of its own.
func (t *Tracker) Anywhere(ctx context.Context, users []string) map[string]bool {
	out := make(map[string]bool)
	for part := range slices.Chunk(users, atOnce) {
		seen := make([]Seen, len(part))
		for i, id := range part {
			seen[i].UserID = id
		}
		for _, p := range t.presences(ctx, seen) {
			if len(p.Devices) > 0 {
				out[p.UserID] = true
			}
		}
	}
	return out
}
