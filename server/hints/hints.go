package hints

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/wire"
)

const (
	// maxQueue is how many hints may wait to be published; more are dropped.
	maxQueue = 4096
	// publishAtOnce is how many hints one pipeline publishes.
	publishAtOnce = 256
	// beatEvery is how often a node says that it is there, jittered by nothing: nodes start at different times.
	beatEvery = 2 * time.Second
	// peerPatience is how long a node counts as there after it was last heard.
	peerPatience = 7 * time.Second
)

// Outgoing is a hint on its way.
type Outgoing struct {
	Channel Channel
	Payload []byte
}

// Bus carries hints. Implemented by storage over Redis; safe for concurrent use.
type Bus interface {
	// Links is how many connections it takes to hear all buckets: bucket b is heard on link b % Links.
	Links() int
	// Publish gives hints to whoever listens now, within half a second.
	Publish(ctx context.Context, hints []Outgoing) error
	// Open makes a connection that listens to nothing yet.
	Open(ctx context.Context) Subscription
}

// Subscription is one connection. Receive is called by one goroutine, all else by another.
type Subscription interface {
	// Subscribe and Unsubscribe send the request; what comes of it is not awaited. All names are of the same link.
	Subscribe(ctx context.Context, names []string) error
	Unsubscribe(ctx context.Context, names []string) error
	// Receive waits for the next hint. It fails when the connection is lost or closed.
	Receive(ctx context.Context) ([]byte, error)
	// Close ends a Receive that waits.
	Close() error
}

// Sink takes what other nodes tell. It must not block for long. Receivers stand repeats and gaps.
type Sink interface {
	// Entries were committed by another node: those of one session, ascending.
	Entries(entries []*wire.Entry)
	// Advanced: the session's head is at least head.
	Advanced(sessionID uuid.UUID, head int64)
	// Signal is something ephemeral in a session.
	Signal(sessionID uuid.UUID, ev *parleyv1.Event)
	// User is an event for all devices of a user but one.
	User(userID, exceptDevice string, ev *parleyv1.Event)
	// Started: a stream of the device began elsewhere. The higher the number, the newer the stream.
	Started(userID, deviceID string, number int64)
	// Changed: something was committed that only the change tables tell.
	Changed()
	// PresenceChanged: devices of a user, whom somebody here watches, came or went.
	PresenceChanged(userID string)
	// Watch: a device that may have its stream here watches the presence of users, who are as given.
	Watch(userID, deviceID string, presences []*parleyv1.Presence)
}

// Hints is a node's part in telling. Safe for concurrent use; Run must run for anything to be heard or told.
type Hints struct {
	bus     Bus // nil: there is none, nothing is told
	sink    Sink
	epoch   func() string
	inLife  func(epoch string, tell func()) bool
	urgent  func(bool)
	clock   clockwork.Clock
	log     *slog.Logger
	metrics *Metrics
	node    string
	in      *interest
	wake    chan struct{}
	up      []atomic.Bool // by link

	mu    sync.Mutex
	queue []Outgoing
	peers map[string]time.Time // by node: when it was last heard
	isUp  bool                 // as last told to urgent
}

// Config is what hints stand on.
type Config struct {
	Bus   Bus // nil without Redis
	Sink  Sink
	Epoch func() string // the log's life
	// InLife runs tell if epoch is the log's life, which it stays meanwhile: hints of another one are passed over.
	InLife func(epoch string, tell func()) bool
	// Urgent is told whether the feed has to make up for missing hints.
	Urgent  func(bool)
	Clock   clockwork.Clock
	Log     *slog.Logger
	Metrics *Metrics
}

// New returns hints that are down until Run has probed them.
func New(c Config) *Hints {
	links := 1
	if c.Bus != nil {
		links = c.Bus.Links()
	}
	h := &Hints{bus: c.Bus, sink: c.Sink, epoch: c.Epoch, inLife: c.InLife, urgent: c.Urgent, clock: c.Clock, log: c.Log, metrics: c.Metrics,
		node: uuid.NewString(), in: newInterest(links), wake: make(chan struct{}, 1), up: make([]atomic.Bool, links),
		peers: make(map[string]time.Time)}
	h.metrics.observe(h)
	return h
}

// WantSession implements hub.Interest.
func (h *Hints) WantSession(id uuid.UUID, here bool) {
	if h.bus != nil {
		h.in.WantSession(id, here)
	}
}

// WantUser implements hub.Interest.
func (h *Hints) WantUser(id string, here bool) {
	if h.bus != nil {
		h.in.WantUser(id, here)
	}
}

// WantPresence says whether somebody here watches a user.
func (h *Hints) WantPresence(id string, here bool) {
	if h.bus != nil {
		h.in.WantPresence(id, here)
	}
}

// PresenceChanged tells those who watch a user to look again.
func (h *Hints) PresenceChanged(userID string) {
	if h.heard() {
		h.put(presenceChannel(userID), message{kind: kindPresence, user: userID})
	}
}

// Watch tells the node that has a device's stream whose presence the device watches.
func (h *Hints) Watch(userID, deviceID string, presences []*parleyv1.Presence) {
	if !h.heard() {
		return
	}
	if raw, err := proto.Marshal(&parleyv1.WatchPresenceResponse{Presences: presences}); err == nil {
		h.put(userChannel(userID), message{kind: kindWatch, user: userID, device: deviceID, event: raw})
	}
}

// Committed tells of entries that this node committed, those of a session in order.
func (h *Hints) Committed(entries []*wire.Entry) {
	if !h.heard() {
		return
	}
	for start := 0; start < len(entries); {
		end, size := start, 0
		m := message{kind: kindEntries, session: entries[start].SessionID}
		for end < len(entries) && entries[end].SessionID == m.session && (end == start || size+entries[end].Size() <= maxPayload) {
			m.entries = append(m.entries, entries[end].Encoded())
			size += entries[end].Size()
			end++
		}
		if size > maxPayload {
			m.kind, m.entries, m.seq = kindAdvanced, nil, entries[end-1].Seq
		}
		h.put(sessionChannel(m.session), m)
		start = end
	}
}

// Signal tells of something ephemeral in a session.
func (h *Hints) Signal(sessionID uuid.UUID, ev *parleyv1.Event) {
	if raw, ok := h.event(ev); ok {
		h.put(sessionChannel(sessionID), message{kind: kindSignal, session: sessionID, event: raw})
	}
}

// NotifyUser tells of an event for all devices of a user but one.
func (h *Hints) NotifyUser(userID, exceptDevice string, ev *parleyv1.Event) {
	if raw, ok := h.event(ev); ok {
		h.put(userChannel(userID), message{kind: kindUser, user: userID, device: exceptDevice, event: raw})
	}
}

// Started tells the node that may have an older stream of the device of a newer one.
func (h *Hints) Started(userID, deviceID string, number int64) {
	if h.heard() {
		h.put(userChannel(userID), message{kind: kindStarted, user: userID, device: deviceID, seq: number})
	}
}

// Changed tells every node to look into the change tables now.
func (h *Hints) Changed() {
	if h.heard() {
		h.put(nodesChannel(), message{kind: kindChanged})
	}
}

func (h *Hints) event(ev *parleyv1.Event) ([]byte, bool) {
	if !h.heard() {
		return nil, false
	}
	raw, err := proto.Marshal(ev)
	return raw, err == nil && len(raw) <= maxPayload
}

// heard reports whether there is another node that may hear.
func (h *Hints) heard() bool {
	if h.bus == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.peers) > 0
}

func (h *Hints) put(c Channel, m message) {
	m.node, m.epoch = h.node, h.epoch()
	out := Outgoing{c, m.encode()}
	h.mu.Lock()
	if len(h.queue) >= maxQueue {
		h.mu.Unlock()
		h.metrics.drop(1)
		return
	}
	h.queue = append(h.queue, out)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run hears and tells until ctx ends.
func (h *Hints) Run(ctx context.Context) {
	h.urgent(true)
	if h.bus == nil {
		return
	}
	var all sync.WaitGroup
	for n := range h.up {
		all.Go(func() { h.runLink(ctx, n) })
	}
	all.Go(func() { h.beat(ctx) })
	all.Go(func() { h.publish(ctx) })
	all.Wait()
}

func (h *Hints) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		for ctx.Err() == nil {
			h.mu.Lock()
			n := min(len(h.queue), publishAtOnce)
			taken := h.queue[:n:n]
			if h.queue = h.queue[n:]; len(h.queue) == 0 {
				h.queue = nil
			}
			h.mu.Unlock()
			if n == 0 {
				break
			}
			if err := h.bus.Publish(ctx, taken); err != nil {
				h.metrics.drop(n)
			} else {
				h.metrics.tell(n)
			}
		}
	}
}

// beat says that this node is there, and forgets nodes that do not any more.
func (h *Hints) beat(ctx context.Context) {
	tick := h.clock.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		h.put(nodesChannel(), message{kind: kindBeat})
		select {
		case <-ctx.Done():
			return
		case <-tick.Chan():
		}
		h.mu.Lock()
		for node, at := range h.peers {
			if h.clock.Since(at) > peerPatience {
				delete(h.peers, node)
			}
		}
		h.mu.Unlock()
	}
}

// Node is this node's id: another one at every start.
func (h *Hints) Node() string { return h.node }

// Alive reports whether a node was heard lately; this node is alive.
func (h *Hints) Alive(node string) bool {
	if node == h.node {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.peers[node]
	return ok
}

// Alone reports whether no other node was heard lately.
func (h *Hints) Alone() bool { return h.Peers() == 0 }

// Peers is how many other nodes are there.
func (h *Hints) Peers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.peers)
}

// Up reports whether hints are heard on all links.
func (h *Hints) Up() bool {
	if h.bus == nil {
		return false
	}
	for n := range h.up {
		if !h.up[n].Load() {
			return false
		}
	}
	return true
}

// judge tells when hints as a whole have come or gone.
func (h *Hints) judge(ctx context.Context) {
	if ctx.Err() != nil {
		return // it is this node that goes
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	up := h.Up()
	if up == h.isUp {
		return
	}
	h.isUp = up
	h.urgent(!up)
	if up {
		h.log.InfoContext(ctx, "hints from other nodes are heard")
	} else {
		h.log.WarnContext(ctx, "hints from other nodes are not heard; the commit log is polled more often")
	}
}
