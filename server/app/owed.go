package app

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/relation"
	"github.com/parley-im/parley/server/state"
)

// maxOwed is how much a node may owe its streams. Past it the streams concerned are asked to come back, which tells them all.
const maxOwed = 10_000

// owed is what the feed found and what its streams could not be told, since PostgreSQL did not say what it comes to: the feed
// reads a change once, so whoever drops one drops it for good. It is tried again after each poll. Used by the feed's
// goroutine alone.
type owed struct {
	states  map[feed.Key]struct{}      // users' states in sessions, to be told
	devices map[ownDevice]struct{}     // that may no longer be here, to be looked at
	links   map[relation.Link]struct{} // relations, to be told
	said    bool                       // logged, until all was told
}

type ownDevice struct{ userID, deviceID string }

func newOwed() owed {
	return owed{states: make(map[feed.Key]struct{}), devices: make(map[ownDevice]struct{}), links: make(map[relation.Link]struct{})}
}

func (o *owed) size() int { return len(o.states) + len(o.devices) + len(o.links) }

// oweState owes a user's state in a session.
func (f *feedSink) oweState(ctx context.Context, k feed.Key, err error) {
	f.oweSome(ctx, "state changes", err)
	if f.owed.size() < maxOwed {
		f.owed.states[k] = struct{}{}
		return
	}
	f.streams.Recall(k.UserID)
}

// oweDevices owes the look at whether devices may still be here.
func (f *feedSink) oweDevices(ctx context.Context, users, devices []string, err error) {
	f.oweSome(ctx, "revocations", err)
	for i, user := range users {
		if f.owed.size() < maxOwed {
			f.owed.devices[ownDevice{user, devices[i]}] = struct{}{}
			continue
		}
		f.streams.Recall(user)
	}
}

// oweLinks owes users what their peers are to them now.
func (f *feedSink) oweLinks(ctx context.Context, links []relation.Link, err error) {
	f.oweSome(ctx, "relation changes", err)
	for _, l := range links {
		if f.owed.size() < maxOwed {
			f.owed.links[l] = struct{}{}
			continue
		}
		f.streams.Recall(l.UserID)
	}
}

func (f *feedSink) oweSome(ctx context.Context, what string, err error) {
	if !f.owed.said {
		f.owed.said = true
		f.log.WarnContext(ctx, "changes could not be read, and are tried again with each poll", "changes", what, "error", err)
	}
}

// settle tries again what is owed, revocations first; what fails once more stays owed.
func (f *feedSink) settle(ctx context.Context) {
	if f.owed.size() == 0 {
		return
	}
	was := f.owed
	f.owed = newOwed()
	f.owed.said = was.said
	var users, devices []string
	for d := range was.devices {
		users, devices = append(users, d.userID), append(devices, d.deviceID)
	}
	f.endRefused(ctx, users, devices)
	links := make([]relation.Link, 0, len(was.links))
	for l := range was.links {
		if f.hub.HasUser(l.UserID) {
			links = append(links, l)
		}
	}
	for part := range slices.Chunk(links, 1000) {
		f.tellRelations(ctx, part)
	}
	byUser := make(map[string][]uuid.UUID)
	for k := range was.states {
		byUser[k.UserID] = append(byUser[k.UserID], k.SessionID)
	}
	for user, ids := range byUser {
		f.tellStates(ctx, user, ids)
	}
	if f.owed.size() == 0 {
		f.owed.said = false
		f.log.InfoContext(ctx, "changes that could not be read were told", "changes", was.size())
	}
}

// tellStates tells a user's devices here what their states in the sessions are, or owes it.
func (f *feedSink) tellStates(ctx context.Context, userID string, ids []uuid.UUID) {
	if !f.hub.HasUser(userID) {
		return // a stream that opens reads them itself
	}
	views, err := f.states.Views(ctx, userID, ids)
	if err != nil {
		for _, id := range ids {
			f.oweState(ctx, feed.Key{UserID: userID, SessionID: id}, err)
		}
		return
	}
	for _, v := range views {
		f.hub.NotifyUser(userID, "", state.Event(v, state.Changes{Unknown: true}))
	}
}
