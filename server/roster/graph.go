package roster

import (
	"github.com/google/uuid"

	"github.com/parley-im/parley/server/feed"
)

// Traits of rows: what the map holds beside the ids. Those of user_to_user are its kind.
const (
	TraitDeactivated uint8 = 1 // of a user
	TraitRevoked     uint8 = 1 // of a device
	TraitRole        uint8 = 3 // of a membership: the bits of its role
	TraitLeft        uint8 = 4 // of a membership
	TraitMuted       uint8 = 8 // of a membership
)

// isUser marks a user's number as one of app_user; the bit above it holds TraitDeactivated.
const isUser uint8 = 1

// Row is a row of a relation: its key, as relation_change names it, and its traits.
type Row struct {
	feed.Relation
	Traits uint8
}

// graph is the map's data. It knows no lock and no age.
type graph struct {
	users    names
	devices  names // device ids, shared by all users that have one of that name
	sessions uuids

	known   []uint8 // by user's number: isUser and traits
	peers   lists   // by user's number: user_to_user, to users
	owned   lists   // by user's number: user_to_device, to devices
	joined  lists   // by user's number: user_to_session, to sessions
	members lists   // by session's number: the same rows, to users

	rows    [5]int64 // how many there are, by feed.RelationKind
	removed int64    // how many were taken out: a bound on ids that stand for nothing any more
}

// put stores a row, in the place of the one with its key.
func (g *graph) put(r Row) error {
	user, err := g.users.intern([]byte(r.UserID))
	if err != nil {
		return err
	}
	var added bool
	switch r.Kind {
	case feed.User:
		for int(user) >= len(g.known) {
			g.known = append(g.known, 0)
		}
		added = g.known[user] == 0
		g.known[user] = isUser | r.Traits<<1
	case feed.UserToUser:
		other, err := g.users.intern([]byte(r.OtherID))
		if err != nil {
			return err
		}
		added = g.peers.set(user, newEdge(other, r.Traits))
	case feed.UserToDevice:
		other, err := g.devices.intern([]byte(r.OtherID))
		if err != nil {
			return err
		}
		added = g.owned.set(user, newEdge(other, r.Traits))
	case feed.UserToSession:
		id, err := uuid.Parse(r.OtherID)
		if err != nil {
			return nil //nolint:nilerr // names no row that could be
		}
		session, err := g.sessions.intern(id)
		if err != nil {
			return err
		}
		added = g.joined.set(user, newEdge(session, r.Traits))
		g.members.set(session, newEdge(user, r.Traits))
	default:
		return nil // a relation that a newer node writes
	}
	if added {
		g.rows[r.Kind]++
	}
	return nil
}

// remove takes a row out, if it is there.
func (g *graph) remove(key feed.Relation) {
	user, ok := g.users.find(key.UserID)
	if !ok {
		return
	}
	found := false
	switch key.Kind {
	case feed.User:
		if found = int(user) < len(g.known) && g.known[user] != 0; found {
			g.known[user] = 0
		}
	case feed.UserToUser:
		if other, ok := g.users.find(key.OtherID); ok {
			found = g.peers.remove(user, other)
		}
	case feed.UserToDevice:
		if other, ok := g.devices.find(key.OtherID); ok {
			found = g.owned.remove(user, other)
		}
	case feed.UserToSession:
		id, err := uuid.Parse(key.OtherID)
		if err != nil {
			return
		}
		if session, ok := g.sessions.find(id); ok {
			found = g.joined.remove(user, session)
			g.members.remove(session, user)
		}
	}
	if found {
		g.rows[key.Kind]--
		g.removed++
	}
}

// bytes is the memory that the map holds.
func (g *graph) bytes() int64 {
	return g.users.bytes() + g.devices.bytes() + g.sessions.bytes() + int64(cap(g.known)) + g.peers.bytes() +
		g.owned.bytes() + g.joined.bytes() + g.members.bytes()
}

// wasteful reports whether more than half of the ids may stand for nothing any more.
func (g *graph) wasteful() bool {
	const few = 1 << 16
	return g.removed > few && g.removed > int64(len(g.users.ends)+len(g.devices.ends)+len(g.sessions.ids))/2
}
