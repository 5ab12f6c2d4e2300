package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/hub"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/presence"
	"github.com/parley-im/parley/server/relation"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/roster"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
	"github.com/parley-im/parley/server/stream"
)

// feedSink hands on what the feed finds to those whom it concerns on this node.
type feedSink struct {
	ring      *ring.Ring
	keeper    *offline.Keeper
	hub       *hub.Hub
	streams   *stream.Manager
	states    views
	cached    *statecache.Store
	devices   refusals
	relations peers
	gate      *device.Gate
	roster    *roster.Roster // nil: none is kept
	presence  *presence.Tracker
	epoch     *epoch
	underway  *underway
	owed      owed
	log       *slog.Logger
}

// views reads what a user's states come to.
type views interface {
	Views(ctx context.Context, userID string, sessionIDs []uuid.UUID) ([]state.View, error)
}

// refusals tells which devices may no longer call.
type refusals interface {
	ListRefused(ctx context.Context, users, devices []string) ([]device.Refused, error)
}

// peers tells what peers are to users, in the order of the links.
type peers interface {
	Views(ctx context.Context, links []relation.Link) ([]relation.Relation, error)
}

// Advanced implements feed.Sink. What this node commits itself waits until that was published.
func (f *feedSink) Advanced(epoch string, sessionID uuid.UUID, head int64) {
	f.underway.advanced(epoch, sessionID, head)
}

// tellAdvanced tells of a head of the log's present life. One of a former life may lie beyond what is there now.
func (f *feedSink) tellAdvanced(life string, sessionID uuid.UUID, head int64) {
	f.epoch.in(life, func() {
		f.ring.Behind(sessionID, head)
		f.hub.Advance(sessionID, head)
	})
}

// Recalled implements feed.Sink.
func (f *feedSink) Recalled(sessionID uuid.UUID) { f.keeper.Forget(sessionID) }

// Moved implements feed.Mover: the second delete of what is cached, for changes whose node died before the first.
func (f *feedSink) Moved(ctx context.Context, keys []feed.Key) {
	cached := make([]state.Key, len(keys))
	for i, k := range keys {
		cached[i] = state.Key(k)
	}
	f.cached.Forget(ctx, cached)
}

// StateChanged implements feed.Sink.
func (f *feedSink) StateChanged(ctx context.Context, userID string, sessionID uuid.UUID) {
	f.tellStates(ctx, userID, []uuid.UUID{sessionID})
}

// StreamStarted implements feed.Sink.
func (f *feedSink) StreamStarted(epoch, userID, deviceID string, number int64) {
	f.epoch.in(epoch, func() { f.streams.Started(userID, deviceID, number) })
}

// RelationsChanged implements feed.Sink: devices and users that may no longer be here lose their streams, and
// memberships that began elsewhere are joined.
func (f *feedSink) RelationsChanged(ctx context.Context, changed []feed.Relation) {
	if f.roster != nil { // first: what follows asks it
		f.roster.Apply(ctx, changed)
	}
	var users, devices []string
	var links []relation.Link
	for _, c := range changed {
		if c.Kind != feed.UserToDevice {
			f.presence.Doubt(c.UserID)
		}
		switch c.Kind {
		case feed.User:
			f.gate.ForgetUser(c.UserID)
			for _, d := range f.streams.Devices(c.UserID) {
				users, devices = append(users, c.UserID), append(devices, d)
			}
		case feed.UserToDevice:
			f.gate.Forget(c.UserID, c.OtherID)
			if f.streams.Has(c.UserID, c.OtherID) {
				users, devices = append(users, c.UserID), append(devices, c.OtherID)
			}
		case feed.UserToSession:
			if id, err := uuid.Parse(c.OtherID); err == nil {
				f.hub.Joined(c.UserID, id)
			}
		case feed.UserToUser:
			if f.hub.HasUser(c.UserID) {
				links = append(links, relation.Link{UserID: c.UserID, PeerID: c.OtherID})
			}
		}
	}
	f.endRefused(ctx, users, devices)
	f.tellRelations(ctx, links)
}

// tellRelations tells each link's user, and never the peer, what the peer is now.
func (f *feedSink) tellRelations(ctx context.Context, links []relation.Link) {
	views, err := f.relations.Views(ctx, links)
	if err != nil {
		f.oweLinks(ctx, links, err)
		return
	}
	for i, v := range views {
		f.hub.NotifyUser(links[i].UserID, "", relation.Event(v)) //nolint:gosec // a view for each link
	}
}

func (f *feedSink) endRefused(ctx context.Context, users, devices []string) {
	if len(users) == 0 {
		return
	}
	refused, err := f.devices.ListRefused(ctx, users, devices)
	if err != nil {
		f.oweDevices(ctx, users, devices, err)
		return
	}
	for _, r := range refused {
		f.streams.EndDevice(r.UserID, r.DeviceID, r.Reason)
	}
}

// Polled implements feed.Watcher.
func (f *feedSink) Polled(ctx context.Context, began time.Time) {
	f.settle(ctx)
	if f.roster != nil {
		f.roster.Polled(ctx, began)
	}
}

// Lost implements feed.Sink. What was missed is not only where sessions stand, but also states, relations and revocations,
// which cannot be found again for each stream at a bearable price; devices that come back read all that themselves.
func (f *feedSink) Lost() {
	f.distrust()
	f.gate.ForgetAll()
	f.streams.Missed()
}

// distrust makes the node ask PostgreSQL again for what it had in memory.
func (f *feedSink) distrust() {
	if f.roster != nil { // first: the streams ask it
		f.roster.Lost()
	}
	f.cached.Distrust()
	f.ring.Clear()
}

// EpochChanged implements feed.Sink. If a connection has told it before, then what was committed from then on to this poll
// is not surely among what the poll found, because transaction numbers are given out again too; so all is read again. The
// streams have started afresh when the connection told; ended now, a device might not have heard of the new epoch yet, and
// would be told a second time.
func (f *feedSink) EpochChanged(epoch string) {
	if !f.epoch.observe(epoch) {
		f.distrust()
		f.streams.ReloadAll()
	}
}
