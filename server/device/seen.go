package device

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/parley-im/parley/server/account"
	"github.com/parley-im/parley/server/session"
)

const (
	// SeenInterval is how often sightings are written. With the second between two polls of the feed it keeps the end of
	// streams that newer ones displace on other nodes within 2 s.
	SeenInterval = 250 * time.Millisecond
	// MaxSeenWaiting is how many devices may wait to be noted; past it, sightings of further ones are dropped: then only a
	// hint tells other nodes of their streams.
	MaxSeenWaiting = 200_000
	// maxSeenFlush is how many devices one statement notes.
	maxSeenFlush = 5_000
	seenTimeout  = 10 * time.Second
)

// SeenStore notes when devices were online, and tells the commit log of their streams. Implemented by storage.
type SeenStore interface {
	// SetSeen notes many devices with the numbers of their streams. Times do not go back; unknown and revoked devices are
	// passed over. The lists have the same length.
	SetSeen(ctx context.Context, users, devices []string, numbers []int64, at []time.Time) error
}

// Sightings notes which devices come online: in memory, written behind as one statement per SeenInterval, so that coming
// back costs PostgreSQL no write of its own. Safe for concurrent use; mu guards what waits, Run writes it.
type Sightings struct {
	store SeenStore
	clock clockwork.Clock
	log   *slog.Logger

	mu      sync.Mutex
	waiting map[session.Actor]sighting
}

// sighting is a device's newest stream, by its number, and when the device was seen last.
type sighting struct {
	at     time.Time
	number int64
}

// NewSightings returns Sightings that Run writes out.
func NewSightings(store SeenStore, clock clockwork.Clock, log *slog.Logger) *Sightings {
	return &Sightings{store: store, clock: clock, log: log, waiting: make(map[session.Actor]sighting)}
}

// Seen notes that a device opened a stream, which has that number, now. It never blocks.
func (s *Sightings) Seen(userID, deviceID string, number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(session.Actor{UserID: userID, DeviceID: deviceID}, sighting{account.Now(s.clock), number})
}

// note keeps the latest time and the highest number of a device. The lock is held.
func (s *Sightings) note(who session.Actor, now sighting) {
	was, ok := s.waiting[who]
	if !ok && len(s.waiting) >= MaxSeenWaiting {
		return
	}
	if now.at.Before(was.at) {
		now.at = was.at
	}
	now.number = max(now.number, was.number)
	s.waiting[who] = now
}

// Run writes sightings behind until ctx ends, and what is left then.
func (s *Sightings) Run(ctx context.Context) {
	tick := s.clock.NewTicker(SeenInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.Chan():
			s.flush(ctx)
		case <-ctx.Done():
			s.flush(context.WithoutCancel(ctx))
			return
		}
	}
}

// flush writes what waits. What cannot be written waits again.
func (s *Sightings) flush(ctx context.Context) {
	s.mu.Lock()
	all := s.waiting
	s.waiting = make(map[session.Actor]sighting)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	for len(all) > 0 {
		var users, devices []string
		var numbers []int64
		var at []time.Time
		for who, one := range all {
			users, devices = append(users, who.UserID), append(devices, who.DeviceID)
			numbers, at = append(numbers, one.number), append(at, one.at)
			if len(at) == maxSeenFlush {
				break
			}
		}
		if err := s.store.SetSeen(ctx, users, devices, numbers, at); err != nil {
			s.log.WarnContext(ctx, "sightings of devices not written, trying again", "devices", len(all), "error", err)
			s.mu.Lock()
			for who, one := range all {
				s.note(who, one)
			}
			s.mu.Unlock()
			return
		}
		for i := range users {
			delete(all, session.Actor{UserID: users[i], DeviceID: devices[i]})
		}
	}
}
