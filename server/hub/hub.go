// Package hub is a node's index from sessions to the local streams that may see them. The path user -> session -> device
// is walked when a stream attaches, never per message: publishing an entry touches its session's receivers only.
//
// Locks: a topic's mutex is held while its receivers are offered an entry, so that each receiver gets a session's entries
// in the order of Publish; receivers take their stream's own mutex inside. Order: shard, topic, stream. Receivers must
// not call the hub from Offer, Advance, Joined or Notify, and must not block there.
package hub

import (
	"hash/maphash"
	"sync"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/wire"
)

// Receiver is one stream's interest in one session.
type Receiver interface {
	// Offer gives committed entries of the session. They come in publish order, which may leave gaps and repeat: the
	// receiver goes by the seq. The slice is only lent.
	Offer(entries []*wire.Entry)
	// Advance tells that the session's head is at least seq.
	Advance(seq int64)
	// Signal gives something ephemeral.
	Signal(ev *parleyv1.Event)
}

// Stream is one live stream, as its user's events see it.
type Stream interface {
	// DeviceID is the stream's device.
	DeviceID() string
	// Joined tells that the user's membership of a session began or changed.
	Joined(sessionID uuid.UUID)
	// Notify gives an event that belongs to the user, not to a session's log.
	Notify(ev *parleyv1.Event)
	// Passed tells of an event that is not given to the stream, because its own device caused it.
	Passed(ev *parleyv1.Event)
}

// Interest is told what this node's streams may see: where the first one comes, and when the last one has gone. It is
// called under the hub's locks, so that the order is the true one, and must neither block nor call the hub.
type Interest interface {
	WantSession(id uuid.UUID, here bool)
	WantUser(id string, here bool)
	// Online: a stream of a device came or ended.
	Online(userID, deviceID string, here bool)
}

// nobody is the Interest of a hub that nobody asks.
type nobody struct{}

func (nobody) WantSession(uuid.UUID, bool) {}
func (nobody) WantUser(string, bool)       {}
func (nobody) Online(string, string, bool) {}

const shards = 64

// Hub is the index. Safe for concurrent use.
type Hub struct {
	seed     maphash.Seed
	interest Interest
	topics   [shards]topicShard
	users    [shards]userShard
}

type topicShard struct {
	mu sync.RWMutex
	m  map[uuid.UUID]*topic
}

type topic struct {
	mu        sync.Mutex
	receivers []Receiver
	dead      bool // taken out of the shard; attach again
}

type userShard struct {
	mu sync.RWMutex
	m  map[string][]Stream
}

// New returns an empty hub.
func New() *Hub {
	h := &Hub{seed: maphash.MakeSeed(), interest: nobody{}}
	for i := range shards {
		h.topics[i].m = make(map[uuid.UUID]*topic)
		h.users[i].m = make(map[string][]Stream)
	}
	return h
}

// Watch makes the hub tell its interest from now on. To be called before the first Attach.
func (h *Hub) Watch(in Interest) { h.interest = in }

func (h *Hub) topicShard(id uuid.UUID) *topicShard {
	return &h.topics[maphash.Bytes(h.seed, id[:])%shards]
}

func (h *Hub) userShard(id string) *userShard {
	return &h.users[maphash.String(h.seed, id)%shards]
}

// Attach adds a receiver to a session: it is offered every entry published from now on.
func (h *Hub) Attach(sessionID uuid.UUID, r Receiver) {
	s := h.topicShard(sessionID)
	for {
		s.mu.Lock()
		t := s.m[sessionID]
		if t == nil {
			t = &topic{}
			s.m[sessionID] = t
			h.interest.WantSession(sessionID, true)
		}
		s.mu.Unlock()
		t.mu.Lock()
		if !t.dead {
			t.receivers = append(t.receivers, r)
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
	}
}

// Detach removes a receiver. When it returns, nothing more is offered to it.
func (h *Hub) Detach(sessionID uuid.UUID, r Receiver) {
	s := h.topicShard(sessionID)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.m[sessionID]
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, have := range t.receivers {
		if have == r {
			last := len(t.receivers) - 1
			t.receivers[i] = t.receivers[last]
			t.receivers[last] = nil
			t.receivers = t.receivers[:last]
			break
		}
	}
	if len(t.receivers) == 0 {
		t.dead = true
		delete(s.m, sessionID)
		h.interest.WantSession(sessionID, false)
	}
}

func (h *Hub) topic(id uuid.UUID) *topic {
	s := h.topicShard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[id]
}

// Publish offers entries, those of each session in order, to the receivers, and tells users who were added.
func (h *Hub) Publish(entries []*wire.Entry) {
	for len(entries) > 0 {
		// What a session got in one commit is offered at once: each receiver is visited, locked and woken once for all of it.
		id, n := entries[0].SessionID, 1
		for n < len(entries) && entries[n].SessionID == id {
			n++
		}
		h.offer(id, entries[:n])
		entries = entries[n:]
	}
}

// offer offers entries of one session to its receivers.
func (h *Hub) offer(id uuid.UUID, entries []*wire.Entry) {
	if t := h.topic(id); t != nil {
		t.mu.Lock()
		for _, r := range t.receivers {
			r.Offer(entries)
		}
		t.mu.Unlock()
	}
	for _, e := range entries {
		for _, user := range e.Adds() {
			h.Joined(user, id)
		}
	}
}

// DirectStarted tells both users' streams of a new direct session.
func (h *Hub) DirectStarted(sessionID uuid.UUID, users [2]string) {
	for _, u := range users {
		h.Joined(u, sessionID)
	}
}

// Advance tells the session's receivers that its head is at least seq.
func (h *Hub) Advance(sessionID uuid.UUID, seq int64) {
	if t := h.topic(sessionID); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, r := range t.receivers {
			r.Advance(seq)
		}
	}
}

// Signal gives something ephemeral to the session's receivers, who leave out the sending device.
func (h *Hub) Signal(sessionID uuid.UUID, ev *parleyv1.Event) {
	if t := h.topic(sessionID); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, r := range t.receivers {
			r.Signal(ev)
		}
	}
}

// AttachUser adds a stream to its user's.
func (h *Hub) AttachUser(userID string, st Stream) {
	s := h.userShard(userID)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[userID] = append(s.m[userID], st)
	if len(s.m[userID]) == 1 {
		h.interest.WantUser(userID, true)
	}
	h.interest.Online(userID, st.DeviceID(), true)
}

// DetachUser removes a stream.
func (h *Hub) DetachUser(userID string, st Stream) {
	s := h.userShard(userID)
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.m[userID]
	for i, have := range list {
		if have == st {
			h.interest.Online(userID, st.DeviceID(), false)
			if len(list) == 1 {
				delete(s.m, userID)
				h.interest.WantUser(userID, false)
				return
			}
			// A new slice: Notify and Joined go over a copy of the old one without the lock.
			s.m[userID] = append(append(make([]Stream, 0, len(list)-1), list[:i]...), list[i+1:]...)
			return
		}
	}
}

// Streams returns a user's streams here. The slice is not to be changed.
func (h *Hub) Streams(userID string) []Stream {
	s := h.userShard(userID)
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := s.m[userID]
	return list[:len(list):len(list)]
}

// HasUser reports whether a user has a stream here.
func (h *Hub) HasUser(userID string) bool { return len(h.Streams(userID)) > 0 }

// Joined tells a user's streams that their membership of a session began or changed.
func (h *Hub) Joined(userID string, sessionID uuid.UUID) {
	for _, st := range h.Streams(userID) {
		st.Joined(sessionID)
	}
}

// NotifyUser gives an event to all of a user's streams here but those of one device. It never blocks.
func (h *Hub) NotifyUser(userID, exceptDevice string, ev *parleyv1.Event) {
	for _, st := range h.Streams(userID) {
		if st.DeviceID() != exceptDevice {
			st.Notify(ev)
		} else {
			st.Passed(ev)
		}
	}
}

// NotifyDevice gives an event to the streams of one device here, of which there may be two while a newer one takes over.
// It never blocks.
func (h *Hub) NotifyDevice(userID, deviceID string, ev *parleyv1.Event) {
	for _, st := range h.Streams(userID) {
		if st.DeviceID() == deviceID {
			st.Notify(ev)
		}
	}
}

// Has reports whether a device has a stream here.
func (h *Hub) Has(userID, deviceID string) bool {
	for _, st := range h.Streams(userID) {
		if st.DeviceID() == deviceID {
			return true
		}
	}
	return false
}
