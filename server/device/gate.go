package device

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/jonboulle/clockwork"

	"github.com/parley-im/parley/server/session"
)

const (
	// GateMemory is how long an answer is remembered, counted from before it was asked for. With the check of live
	// streams once per second it keeps revocation within 2 s.
	GateMemory = time.Second
	// MaxGateEntries bounds how many answers are remembered, about 250 bytes each; past it the least used one goes.
	MaxGateEntries = 100_000
	// gateTimeout bounds one question to the store, which several callers may be waiting for.
	gateTimeout = 2 * time.Second
)

// Access is what is known of a device that wants to call.
type Access struct {
	Deactivated bool // the user is
	Known       bool // the device is
	Revoked     bool // the device is
}

// GateStore answers who may call. Implemented by storage; safe for concurrent use.
type GateStore interface {
	// Access returns what is known of a device; for unknown users and devices Known is false.
	Access(ctx context.Context, userID, deviceID string) (Access, error)
}

// Gate says on every call whether the caller's device may still call. It remembers yes, and that a device was revoked,
// for GateMemory. It does not remember that a device is unknown or a user deactivated, which may be over a moment later:
// then a device that registered would be refused. Calls that ask about the same device at the same time share one
// question. Safe for concurrent use.
type Gate struct {
	store GateStore
	clock clockwork.Clock

	mu      sync.Mutex
	known   *simplelru.LRU[session.Actor, answer] // guarded by mu
	flights map[session.Actor]*flight             // guarded by mu; questions that more callers may join
}

// answer is what is remembered of a device.
type answer struct {
	verdict error // nil or a refusal
	until   time.Time
}

// flight is one question to the store, owned by a goroutine that ends within gateTimeout. verdict and fault are written
// before done is closed and read after.
type flight struct {
	done    chan struct{}
	verdict error
	fault   error
	void    bool // guarded by Gate.mu: asked before somebody said Forget, so not to be remembered
}

// NewGate returns a gate that remembers nothing yet.
func NewGate(store GateStore, clock clockwork.Clock) *Gate {
	known, err := simplelru.NewLRU[session.Actor, answer](MaxGateEntries, nil)
	if err != nil {
		panic(err) //nolint:forbidigo // only for a size below 1
	}
	return &Gate{store: store, clock: clock, known: known, flights: make(map[session.Actor]*flight)}
}

// Check returns nil when the device may call, USER_DEACTIVATED or DEVICE_REVOKED (which covers unknown devices) when it
// may not, and UNAVAILABLE when that cannot be found out.
func (g *Gate) Check(ctx context.Context, userID, deviceID string) error {
	who := session.Actor{UserID: userID, DeviceID: deviceID}
	g.mu.Lock()
	if a, ok := g.known.Get(who); ok && g.clock.Now().Before(a.until) {
		g.mu.Unlock()
		return a.verdict
	}
	f, joined := g.flights[who]
	if !joined {
		f = &flight{done: make(chan struct{})}
		g.flights[who] = f
		// One caller's leaving must not fail the others, so the question does not end with the call that began it.
		go g.fly(context.WithoutCancel(ctx), who, f)
	}
	g.mu.Unlock()

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.done:
	}
	if f.fault == nil {
		return f.verdict
	}
	if !joined {
		return f.fault
	}
	// The question began before this call, and what spoilt it may be over.
	verdict, _, err := g.ask(ctx, who)
	if err != nil {
		return err
	}
	return verdict
}

// fly asks, remembers, and tells those who wait.
func (g *Gate) fly(ctx context.Context, who session.Actor, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	until := g.clock.Now().Add(GateMemory)
	verdict, lasting, err := g.ask(ctx, who)

	g.mu.Lock()
	if !f.void {
		delete(g.flights, who)
		if err == nil && lasting {
			g.known.Add(who, answer{verdict: verdict, until: until})
		}
	}
	g.mu.Unlock()
	f.verdict, f.fault = verdict, err
	close(f.done)
}

// ask returns the store's verdict, and whether it is one to remember.
func (g *Gate) ask(ctx context.Context, who session.Actor) (verdict error, lasting bool, err error) {
	a, err := g.store.Access(ctx, who.UserID, who.DeviceID)
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("check device: %w", err)
	case a.Deactivated:
		return errDeactivated, false, nil
	case !a.Known:
		return errRevoked, false, nil
	case a.Revoked:
		return errRevoked, true, nil
	default:
		return nil, true, nil
	}
}

// Forget drops what is remembered of a device. Checks that begin after it ask anew.
func (g *Gate) Forget(userID, deviceID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(session.Actor{UserID: userID, DeviceID: deviceID})
}

// ForgetUser drops what is remembered of all devices of a user. It looks through all that is remembered, a few
// milliseconds at most, which is right for something as rare as deactivating a user.
func (g *Gate) ForgetUser(userID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, who := range g.known.Keys() {
		if who.UserID == userID {
			g.forget(who)
		}
	}
	for who := range g.flights {
		if who.UserID == userID {
			g.forget(who)
		}
	}
}

// ForgetAll drops everything.
func (g *Gate) ForgetAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known.Purge()
	for who := range g.flights {
		g.forget(who)
	}
}

// forget is called with mu held.
func (g *Gate) forget(who session.Actor) {
	g.known.Remove(who)
	if f, ok := g.flights[who]; ok {
		f.void = true
		delete(g.flights, who)
	}
}
