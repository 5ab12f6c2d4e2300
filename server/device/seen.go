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
	// SeenInterval is how often sightings are written.
	SeenInterval = time.Second
	// MaxSeenWaiting is how many devices may wait to be noted; past it, sightings of further ones are dropped: they only
	// tell when a device was online last.
	MaxSeenWaiting = 200_000
	// maxSeenFlush is how many devices one statement notes.
	maxSeenFlush = 5_000
	seenTimeout  = 10 * time.Second
)

// SeenStore notes when devices were online. Implemented by storage.
type SeenStore interface {
	// SetSeen notes many devices. Times do not go back; unknown and revoked devices are passed over.
	SetSeen(ctx context.Context, users, devices []string, at []time.Time) error
}

// Sightings notes which devices come online: in memory, written behind as one statement a second or so, so that coming
// back costs PostgreSQL no write of its own. Safe for concurrent use; mu guards what waits, Run writes it.
type Sightings struct {
	store SeenStore
	clock clockwork.Clock
	log   *slog.Logger

	mu      sync.Mutex
	waiting map[session.Actor]time.Time
}

// NewSightings returns Sightings that Run writes out.
func NewSightings(store SeenStore, clock clockwork.Clock, log *slog.Logger) *Sightings {
	return &Sightings{store: store, clock: clock, log: log, waiting: make(map[session.Actor]time.Time)}
}

// Seen notes that a device opened a stream now. It never blocks.
func (s *Sightings) Seen(userID, deviceID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(session.Actor{UserID: userID, DeviceID: deviceID}, account.Now(s.clock))
}

// note keeps the latest time of a device. The lock is held.
func (s *Sightings) note(who session.Actor, at time.Time) {
	was, ok := s.waiting[who]
	if (ok || len(s.waiting) < MaxSeenWaiting) && (!ok || was.Before(at)) {
		s.waiting[who] = at
	}
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
	s.waiting = make(map[session.Actor]time.Time)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	for len(all) > 0 {
		var users, devices []string
		var at []time.Time
		for who, t := range all {
			users, devices, at = append(users, who.UserID), append(devices, who.DeviceID), append(at, t)
			if len(at) == maxSeenFlush {
				break
			}
		}
		if err := s.store.SetSeen(ctx, users, devices, at); err != nil {
			s.log.WarnContext(ctx, "sightings of devices not written, trying again", "devices", len(all), "error", err)
			s.mu.Lock()
			for who, t := range all {
				s.note(who, t)
			}
			s.mu.Unlock()
			return
		}
		for i := range users {
			delete(all, session.Actor{UserID: users[i], DeviceID: devices[i]})
		}
	}
}
