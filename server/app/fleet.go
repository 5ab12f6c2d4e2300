package app

import (
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/hints"
	"github.com/parley-im/parley/server/hub"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/presence"
	"github.com/parley-im/parley/server/reading"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// fleet tells what happened here to the streams of this node and, by hints, to the other nodes.
type fleet struct {
	*hub.Hub
	hints *hints.Hints
	sink  *hintSink
}

// tellOthers joins this node's hub with those of other nodes.
func (a *App) tellOthers(db *storage.DB, local *hub.Hub, recent *ring.Ring, life *epoch, reg prometheus.Registerer) fleet {
	sink := &hintSink{ring: recent, keeper: a.keeper, hub: local, feed: a.feed}
	c := hints.Config{Sink: sink, Epoch: life.Current, InLife: life.in, Urgent: a.feed.SetUrgent,
		Clock: a.clock, Log: a.log, Metrics: hints.NewMetrics(reg)}
	if a.redis != nil {
		c.Bus = storage.NewHintBus(a.redis)
	}
	a.hints = hints.New(c)
	var board presence.Board // stays nil without Redis
	if a.redis != nil {
		board = storage.NewPresenceBoard(a.redis, life.Current)
	}
	a.presence = presence.NewTracker(board, storage.PresenceAudience{DB: db}, a.hints, local, a.clock, a.log)
	sink.presence = a.presence
	local.Watch(interest{a.hints, a.presence})
	return fleet{local, a.hints, sink}
}

// interest tells what this node's streams are and may see to those who need it.
type interest struct {
	*hints.Hints
	*presence.Tracker
}

// Publish implements offline.Hub.
func (f fleet) Publish(entries []*wire.Entry) {
	f.Hub.Publish(entries)
	f.hints.Committed(entries)
	for _, e := range entries {
		if e.Change != nil { // users whose nodes have no interest in the session yet
			f.hints.Changed()
			return
		}
	}
}

// DirectStarted implements offline.Hub.
func (f fleet) DirectStarted(sessionID uuid.UUID, users [2]string) {
	f.Hub.DirectStarted(sessionID, users)
	f.hints.Changed()
}

// Signal implements rpc.Signals.
func (f fleet) Signal(sessionID uuid.UUID, ev *parleyv1.Event) {
	f.Hub.Signal(sessionID, ev)
	f.hints.Signal(sessionID, ev)
}

// NotifyUser implements the domain's Notifiers.
func (f fleet) NotifyUser(userID, exceptDevice string, ev *parleyv1.Event) {
	f.Hub.NotifyUser(userID, exceptDevice, ev)
	f.hints.NotifyUser(userID, exceptDevice, ev)
}

// relationNotifier tells of relations: other nodes read them from relation_change, which they are asked to do at once.
type relationNotifier struct{ fleet }

// NotifyUser implements relation.Notifier.
func (n relationNotifier) NotifyUser(userID, exceptDevice string, ev *parleyv1.Event) {
	n.Hub.NotifyUser(userID, exceptDevice, ev)
	n.hints.Changed()
}

// stateNotifier is what message states need: delivery, and the note that a row of the commit log was delivered here.
type stateNotifier struct {
	fleet
	feed     *feed.Feed
	readings *reading.Teller
}

// Read implements state.Notifier.
func (n stateNotifier) Read(userID string, sessionID uuid.UUID, readSeq int64) {
	n.readings.Note(reading.Position{UserID: userID, SessionID: sessionID, ReadSeq: readSeq})
}

// Handled implements state.Notifier.
func (n stateNotifier) Handled(commitLogID int64) { n.feed.Handled(commitLogID) }

// streamEnds ends streams here, and asks other nodes to look for what ended them. The manager comes later than those who
// call it.
type streamEnds struct {
	*stream.Manager
	hints *hints.Hints
}

// EndDevice implements device.Ender.
func (e *streamEnds) EndDevice(userID, deviceID string, why refusal.Reason) {
	e.Manager.EndDevice(userID, deviceID, why)
	e.hints.Changed()
}

// EndUser implements account.Ender.
func (e *streamEnds) EndUser(userID string, why refusal.Reason) {
	e.Manager.EndUser(userID, why)
	e.hints.Changed()
}

// hintSink takes what other nodes tell.
type hintSink struct {
	ring   *ring.Ring
	keeper *offline.Keeper
	hub    *hub.Hub
	feed   *feed.Feed

	presence *presence.Tracker // made after the hints, before they run, like
	streams  *stream.Manager
}

// Entries implements hints.Sink. As in offline.Publisher the ring comes first.
func (s *hintSink) Entries(entries []*wire.Entry) {
	for _, e := range entries {
		s.ring.Append(e)
		if e.RecalledSeq != 0 {
			s.keeper.Forget(e.SessionID)
		}
	}
	s.hub.Publish(entries)
}

// Advanced implements hints.Sink.
func (s *hintSink) Advanced(sessionID uuid.UUID, head int64) {
	s.ring.Behind(sessionID, head)
	s.hub.Advance(sessionID, head)
}

// Signal implements hints.Sink.
func (s *hintSink) Signal(sessionID uuid.UUID, ev *parleyv1.Event) { s.hub.Signal(sessionID, ev) }

// User implements hints.Sink.
func (s *hintSink) User(userID, exceptDevice string, ev *parleyv1.Event) {
	s.hub.NotifyUser(userID, exceptDevice, ev)
}

// Started implements hints.Sink.
func (s *hintSink) Started(userID, deviceID string, number int64) {
	s.streams.Started(userID, deviceID, number)
}

// Changed implements hints.Sink.
func (s *hintSink) Changed() { s.feed.Wake() }

// PresenceChanged implements hints.Sink.
func (s *hintSink) PresenceChanged(userID string) { s.presence.Look(userID) }

// Watch implements hints.Sink.
func (s *hintSink) Watch(userID, deviceID string, presences []*parleyv1.Presence) {
	s.presence.Watch(userID, deviceID, presences)
}
