package stream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/semaphore"

	"github.com/parley-im/parley/server/hub"
	"github.com/parley-im/parley/server/refusal"
)

// Config sets how streams behave.
type Config struct {
	// Heartbeat is the silence after which a stream says that it lives; 20 s by default.
	Heartbeat time.Duration
	// RoamBacklog is how many of a session's last entries a new device gets; 200 by default.
	RoamBacklog int64
	// Pulls is how many streams may read backlog at the same time; 16 by default. Others wait their turn.
	Pulls int64
	// Arrivals is how many devices may wait to be told where they stand; 16,384 by default. More are refused with
	// OVERLOADED.
	Arrivals int
	// ReconnectSpread is the time over which devices are asked to come back after a shutdown; 5 s by default.
	ReconnectSpread time.Duration
}

func (c Config) withDefaults() Config {
	if c.Heartbeat <= 0 {
		c.Heartbeat = 20 * time.Second
	}
	if c.RoamBacklog <= 0 {
		c.RoamBacklog = 200
	}
	if c.Pulls <= 0 {
		c.Pulls = 16
	}
	if c.Arrivals <= 0 {
		c.Arrivals = 16_384
	}
	if c.ReconnectSpread <= 0 {
		c.ReconnectSpread = 5 * time.Second
	}
	return c
}

// Ports are what the streams stand on.
type Ports struct {
	Hub      *hub.Hub
	Starter  Starter
	Sessions Sessions
	Devices  Devices
	Reader   Reader
	States   States
	Epoch    Epoch
	Clock    clockwork.Clock
	Log      *slog.Logger
	Metrics  *Metrics
}

type deviceKey struct{ userID, deviceID string }

// Manager keeps the live streams of a node: at most one per device. Safe for concurrent use.
type Manager struct {
	cfg        Config
	hub        *hub.Hub
	sessions   Sessions
	devices    Devices
	reader     Reader
	states     States
	epoch      Epoch
	clock      clockwork.Clock
	log        *slog.Logger
	metrics    *Metrics
	pulls      *semaphore.Weighted
	arrivals   *arrivals
	queueBytes atomic.Int64
	writers    writers

	mu       sync.Mutex
	live     map[deviceKey]*entry
	highest  int64 // number of a stream that was heard of, in the log's present life
	draining bool
	wg       sync.WaitGroup
}

// entry is a live stream with what may end it from outside.
type entry struct {
	*Stream
	expires time.Time
	key     [32]byte
	number  int64 // the stream's, 0 before it has one
	newest  int64 // the highest number heard of the device while the stream had none

	began   time.Time // when the call came
	known   int64     // the highest number of any stream that was heard of then
	later   int64     // of a late call, the number that it takes at settles; else 0
	settles time.Time
}

// NewManager returns a manager without streams.
func NewManager(cfg Config, p Ports) *Manager {
	cfg = cfg.withDefaults()
	m := &Manager{cfg: cfg, hub: p.Hub, sessions: p.Sessions, devices: p.Devices, reader: p.Reader, states: p.States,
		epoch: p.Epoch, clock: p.Clock, log: p.Log, metrics: p.Metrics, pulls: semaphore.NewWeighted(cfg.Pulls),
		live: make(map[deviceKey]*entry), arrivals: &arrivals{starter: p.Starter, most: cfg.Arrivals, spread: cfg.ReconnectSpread, metrics: p.Metrics}}
	m.metrics.observe(m)
	return m
}

// Caller is the device that opens a stream.
type Caller struct {
	UserID, DeviceID string
	Expires          time.Time // of the token; the stream ends with it
	Key              [32]byte  // what verified the token, for EndLapsed; the stream ends when it counts no more
}

var (
	errDisplaced = refusal.New(refusal.StreamDisplaced, "A newer stream of this device took over.")
	errExpired   = refusal.New(refusal.TokenExpired, "The token's time is over; get a new one and reconnect.")
)

// formerEpoch stands for any epoch but the present one.
const formerEpoch = "former"

// Serve runs a stream until the call, the sink or the server ends it, and says why. It returns nil when the stream goes on
// by itself: a Detachable sink is then told of the end.
func (m *Manager) Serve(ctx context.Context, caller Caller, req Request, sink Sink) error {
	s := newStream(m, caller, req, sink)
	if err := m.register(s, caller); err != nil {
		return err
	}
	s, err := m.serve(ctx, s, req)
	if errors.Is(err, errParked) {
		return nil
	}
	m.unregister(s)
	if s.direct != nil { // it ended between being taken from the call and being parked: the call can say nothing any more
		s.direct.End(err)
		return nil
	}
	return err
}

// serve opens a stream and runs it until it parks (errParked) or ends, and returns the stream that did, which is another one
// where the epoch changed: then the call goes on with a stream that starts afresh, and not a later call, which could not
// tell that its device holds nothing any more.
func (m *Manager) serve(ctx context.Context, s *Stream, req Request) (*Stream, error) {
	err := s.open(ctx, req)
	if err == nil {
		err = s.run(ctx)
	}
	return m.liveOn(ctx, s, err)
}

// liveOn takes what came of running a stream.
func (m *Manager) liveOn(ctx context.Context, s *Stream, err error) (*Stream, error) {
	if errors.Is(err, errParked) {
		return s, err
	}
	s.close()
	if s.beat != nil {
		s.beat.Stop()
	}
	if !errors.Is(err, errEpochChanged) {
		return s, asEnd(err)
	}
	next := s.successor()
	if !m.replace(s, next) {
		return s, asEnd(errDisplaced)
	}
	return m.serve(ctx, next, Request{Epoch: formerEpoch, MaxBacklog: next.limit})
}

func (m *Manager) register(s *Stream, caller Caller) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining {
		return m.goingDown()
	}
	key := deviceKey{s.userID, s.deviceID}
	if older := m.live[key]; older != nil {
		older.end(errDisplaced)
	}
	m.live[key] = &entry{Stream: s, expires: caller.Expires, key: caller.Key, began: m.clock.Now(), known: m.highest}
	m.wg.Add(1)
	return nil
}

// replace puts a stream in the place of one that has ended, unless a newer one of the device is there by now.
func (m *Manager) replace(old, by *Stream) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.live[deviceKey{old.userID, old.deviceID}]
	if e == nil || e.Stream != old {
		return false
	}
	e.Stream, e.number, e.newest = by, 0, 0 // numbers of another life mean nothing
	e.began, e.known, e.later = m.clock.Now(), m.highest, 0
	if m.draining {
		by.end(m.goingDown())
	}
	return true
}

func (m *Manager) unregister(s *Stream) {
	m.mu.Lock()
	key := deviceKey{s.userID, s.deviceID}
	number := int64(0)
	if e := m.live[key]; e != nil && e.Stream == s {
		number = e.number
		delete(m.live, key)
	}
	m.mu.Unlock()
	if number != 0 { // it was online until now; one that was displaced has a newer stream, which tells
		m.devices.Seen(s.userID, s.deviceID, number)
	}
	m.wg.Done()
}

// goingDown tells a device to come back, each after a time of its own.
func (m *Manager) goingDown() error {
	return comeBack(refusal.ShuttingDown, "This node is going down; reconnect and resume.", 0, m.cfg.ReconnectSpread)
}

// admit waits for a turn to read backlog; call the returned function when done.
func (m *Manager) admit(ctx context.Context) (func(), error) {
	if err := m.pulls.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { m.pulls.Release(1) }, nil
}

// EndDevice ends a device's stream here at once.
func (m *Manager) EndDevice(userID, deviceID string, why refusal.Reason) {
	m.endWhere(why, func(k deviceKey, _ *entry) bool { return k.userID == userID && k.deviceID == deviceID })
}

// EndUser ends all of a user's streams here at once.
func (m *Manager) EndUser(userID string, why refusal.Reason) {
	m.endWhere(why, func(k deviceKey, _ *entry) bool { return k.userID == userID })
}

// Recall asks a user's devices here to come back, each after a time of its own: there is news of them that could not be read.
func (m *Manager) Recall(userID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.live {
		if k.userID == userID {
			e.end(comeBack(refusal.Unavailable, "What is new could not be read; reconnect and resume.", 0, m.cfg.ReconnectSpread))
		}
	}
}

// EndLapsed ends the streams whose token no longer holds: its time is over, or its key counts no more, of which check
// returns the reason. It calls check for every stream with a lock held, so check must neither block nor call back.
func (m *Manager) EndLapsed(check func(key [32]byte) error) {
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.live {
		if !e.expires.IsZero() && now.After(e.expires) {
			e.end(errExpired)
		} else if err := check(e.key); err != nil {
			e.end(err)
		}
	}
}

func (m *Manager) endWhere(why refusal.Reason, match func(deviceKey, *entry) bool) {
	err := refusal.New(why, "This stream was ended: its device or user may no longer be here.")
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.live {
		if match(k, e) {
			e.end(err)
		}
	}
}

// Resync tells every stream that the log's life has changed, and makes it start afresh.
func (m *Manager) Resync() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.highest = 0
	for _, e := range m.live {
		e.end(errEpochChanged)
	}
}

// Has reports whether a device of the user has a stream here.
func (m *Manager) Has(userID, deviceID string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[deviceKey{userID, deviceID}] != nil
}

// Devices returns which devices of a user have a stream here.
func (m *Manager) Devices(userID string) (ids []string) {
	for _, st := range m.hub.Streams(userID) {
		ids = append(ids, st.DeviceID())
	}
	return ids
}

// Missed asks all devices here to come back, each after a time of its own: the node missed what happened, and only a stream
// that opens reads all of it (memberships, heads, states and whether the device may still be here).
func (m *Manager) Missed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.live {
		e.end(comeBack(refusal.Unavailable, "This node missed what happened; reconnect and resume.", 0, m.cfg.ReconnectSpread))
	}
}

// ReloadAll makes every stream read its memberships and heads again, and tells other nodes of it again: something may have
// been missed.
func (m *Manager) ReloadAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.live {
		e.Lost()
		if e.number != 0 {
			m.devices.Seen(k.userID, k.deviceID, e.number)
		}
	}
}

// Streams is the number of live streams.
func (m *Manager) Streams() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.live))
}

// QueueBytes is the number of bytes that wait in all streams.
func (m *Manager) QueueBytes() int64 { return m.queueBytes.Load() }

// Drain refuses new streams, ends all with a hint when to come back, and returns when they have ended or ctx is over.
func (m *Manager) Drain(ctx context.Context) error {
	m.mu.Lock()
	m.draining = true
	for _, e := range m.live {
		e.end(m.goingDown())
	}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		m.wg.Wait()
		m.arrivals.close()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
