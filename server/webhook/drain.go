package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
)

const (
	// DrainBudget is how long one job goes on with a lane before others have their turn.
	DrainBudget = 15 * time.Second
	// PartSize is how many users one offline message names.
	PartSize = 500
	// crowded is how long a job waits whose webhook has MaxInFlight requests on this node.
	crowded = time.Second
)

// Deliveries is what draining needs to know and note. Implemented by storage; safe for concurrent use.
type Deliveries interface {
	// Next returns the delivery that a lane waits for, with its webhook; ok is false where there is none, or the webhook is
	// disabled or gone.
	Next(ctx context.Context, webhookID, lane uuid.UUID) (w Webhook, d Delivery, ok bool, err error)
	// Settle notes an attempt, what has come of the delivery, and when it is next tried if it waits.
	Settle(ctx context.Context, d Delivery, a Attempt, s State, dueAt time.Time) error
	// Needless notes that nobody is to be told any more.
	Needless(ctx context.Context, id uuid.UUID) error
	// Split puts parts of an audience in the place of an offline message.
	Split(ctx context.Context, id uuid.UUID, parts [][]string) error
	// Entry returns a log entry as it is now.
	Entry(ctx context.Context, sessionID uuid.UUID, seq int64) (message.Entry, bool, error)
	// Audience returns up to limit members with an id above after, ascending, who are to be notified of an entry.
	Audience(ctx context.Context, e message.Entry, after string, limit int) ([]string, error)
	// StillOffline returns those of the users who are to be notified still, with their devices, ascending.
	StillOffline(ctx context.Context, e message.Entry, users []string) ([]*parleyv1.OfflineUser, error)
}

// Presence tells who has a live device.
type Presence interface {
	// Online returns those of the users who have one on any node, as far as this node knows.
	Online(ctx context.Context, users []string) map[string]bool
}

// Epoch tells the life of the log.
type Epoch interface{ Current() string }

// Drainer sends what lanes wait for. Safe for concurrent use.
type Drainer struct {
	store    Deliveries
	presence Presence
	epoch    Epoch
	sender   *Sender
	clock    clockwork.Clock
	metrics  *Metrics

	mu       sync.Mutex
	inFlight map[uuid.UUID]int // by webhook
}

// NewDrainer returns a drainer.
func NewDrainer(store Deliveries, presence Presence, epoch Epoch, sender *Sender, clock clockwork.Clock, m *Metrics) *Drainer {
	return &Drainer{store: store, presence: presence, epoch: epoch, sender: sender, clock: clock, metrics: m, inFlight: make(map[uuid.UUID]int)}
}

// Rest is what is to become of a lane's job: it is Done, or goes on after Wait.
type Rest struct {
	Done bool
	Wait time.Duration
}

// Drain sends a lane's deliveries in order until there is none, one has to wait, or DrainBudget is used up. An error is the
// store's, and leaves everything to the next call.
func (d *Drainer) Drain(ctx context.Context, webhookID, lane uuid.UUID) (Rest, error) {
	if !d.enter(webhookID) {
		return Rest{Wait: crowded + time.Duration(rand.Int64N(int64(crowded)))}, nil //nolint:gosec // only spreads load
	}
	defer d.leave(webhookID)
	for began := d.clock.Now(); ; {
		w, next, ok, err := d.store.Next(ctx, webhookID, lane)
		if err != nil || !ok {
			return Rest{Done: true}, err
		}
		now := d.clock.Now()
		if wait := next.DueAt.Sub(now); wait > 0 {
			return Rest{Wait: wait}, nil
		}
		if now.Sub(began) > DrainBudget {
			return Rest{}, nil
		}
		if wait, err := d.deliver(ctx, w, next); err != nil || wait > 0 {
			return Rest{Wait: wait}, err
		}
	}
}

func (d *Drainer) enter(id uuid.UUID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inFlight[id] >= MaxInFlight {
		return false
	}
	d.inFlight[id]++
	return true
}

func (d *Drainer) leave(id uuid.UUID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inFlight[id]--; d.inFlight[id] == 0 {
		delete(d.inFlight, id)
	}
}

// deliver makes one attempt and returns how long the lane has to wait, 0 where the next delivery may follow.
func (d *Drainer) deliver(ctx context.Context, w Webhook, next Delivery) (time.Duration, error) {
	body, settled, err := d.render(ctx, next)
	if err != nil || settled {
		return 0, err
	}
	attemptCtx, cancel := context.WithTimeout(ctx, AttemptTimeout)
	a, _ := d.sender.Post(attemptCtx, w, next.ID, body, false)
	cancel()
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("deliver: %w", err) // this node is going down: not the receiver's fault
	}
	d.metrics.attempt(a)
	if a.Error == "" {
		return 0, d.store.Settle(ctx, next, a, Delivered, a.At)
	}
	if next.Attempts >= len(Schedule) {
		d.metrics.givenUp.Inc()
		return 0, d.store.Settle(ctx, next, a, GivenUp, a.At)
	}
	wait := jittered(Schedule[next.Attempts])
	return wait, d.store.Settle(ctx, next, a, Waiting, d.clock.Now().Add(wait))
}

// jittered is a time give or take a tenth.
func jittered(t time.Duration) time.Duration {
	return t*9/10 + time.Duration(rand.Int64N(int64(t)/5)) //nolint:gosec // only spreads load
}

// render makes the body of a delivery's request from what is stored now. settled means that no request is to be made.
func (d *Drainer) render(ctx context.Context, next Delivery) (body []byte, settled bool, err error) {
	if next.Event == RelationChanged {
		body, err = relationPayload(d.epoch.Current(), next)
		return body, false, err
	}
	e, found, err := d.store.Entry(ctx, next.SessionID, next.Seq)
	if err != nil {
		return nil, false, err
	}
	if !found {
		return nil, true, d.store.Needless(ctx, next.ID)
	}
	if next.Event != MessageOffline {
		body, err = entryPayload(next.Event, d.epoch.Current(), e, nil)
		return body, false, err
	}
	return d.renderOffline(ctx, next, e)
}

func (d *Drainer) renderOffline(ctx context.Context, next Delivery, e message.Entry) (body []byte, settled bool, err error) {
	if e.IsDeleted {
		return nil, true, d.store.Needless(ctx, next.ID)
	}
	if next.Chunk == 0 {
		return nil, true, d.split(ctx, next, e)
	}
	users, err := d.store.StillOffline(ctx, e, next.Users)
	if err != nil {
		return nil, false, err
	}
	if len(users) == 0 {
		return nil, true, d.store.Needless(ctx, next.ID)
	}
	body, err = entryPayload(next.Event, d.epoch.Current(), e, users)
	return body, false, err
}

// split finds out whom an offline message is for: members to be notified who have no live device now.
func (d *Drainer) split(ctx context.Context, next Delivery, e message.Entry) error {
	var parts [][]string
	var part []string
	for after := ""; ; {
		users, err := d.store.Audience(ctx, e, after, PartSize)
		if err != nil {
			return err
		}
		online := d.presence.Online(ctx, users)
		for _, u := range users {
			if online[u] {
				continue
			}
			if part = append(part, u); len(part) == PartSize {
				parts, part = append(parts, part), nil
			}
		}
		if len(users) < PartSize {
			break
		}
		after = users[len(users)-1]
	}
	if len(part) > 0 {
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return d.store.Needless(ctx, next.ID)
	}
	return d.store.Split(ctx, next.ID, parts)
}
