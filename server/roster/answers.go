package roster

import (
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/relation"
)

// Age is the time since the moment up to which the map has everything; math.MaxInt64 when it is not loaded or waits for
// rows that changed.
func (r *Roster) Age() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.age()
}

// age is called with mu held, as is fresh.
func (r *Roster) age() time.Duration {
	if r.graph == nil || len(r.pending) > 0 {
		return math.MaxInt64
	}
	return r.clock.Since(r.asOf)
}

func (r *Roster) fresh() bool { return r.age() <= MaxAge }

// Device tells whether a device may call, and why not: USER_DEACTIVATED, or DEVICE_REVOKED for a device that was revoked.
// known is false when that cannot be said: the map is not fresh (here past MaxDeviceAge), the device is not in it, or the
// user is in doubt. Only allowed is to be relied on; a refusal is to be confirmed in PostgreSQL.
func (r *Roster) Device(userID, deviceID string) (allowed bool, why refusal.Reason, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.age() > MaxDeviceAge || !r.doubted.IsZero() {
		return false, why, false
	}
	if _, doubt := r.doubts[userID]; doubt {
		return false, why, false
	}
	user, ok := r.graph.users.find(userID)
	if !ok || int(user) >= len(r.graph.known) || r.graph.known[user] == 0 {
		return false, why, false
	}
	if r.graph.known[user]>>1&TraitDeactivated != 0 {
		return false, refusal.UserDeactivated, true
	}
	device, ok := r.graph.devices.find(deviceID)
	if !ok {
		return false, why, false
	}
	switch e, ok := r.graph.owned.find(user, device); {
	case !ok:
		return false, why, false
	case e.traits()&TraitRevoked != 0:
		return false, refusal.DeviceRevoked, true
	default:
		return true, why, true
	}
}

// Sessions returns the sessions that a user is a member of, in no order. One joined since the last poll may be missing,
// and one left since then be among them: what is done with them must stand that, or look in PostgreSQL. Nothing found is
// a negative answer like any other.
func (r *Roster) Sessions(userID string) (ids []uuid.UUID, fresh bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.fresh() {
		return nil, false
	}
	user, ok := r.graph.users.find(userID)
	if !ok {
		return nil, true
	}
	list := r.graph.joined.of(user)
	ids = make([]uuid.UUID, 0, len(list))
	for _, e := range list {
		if e.traits()&TraitLeft == 0 {
			ids = append(ids, r.graph.sessions.ids[e.number()])
		}
	}
	return ids, true
}

// Members returns the users who are members of a session, in no order, with what Sessions says of those who came or left
// just now.
func (r *Roster) Members(sessionID uuid.UUID) (userIDs []string, fresh bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.fresh() {
		return nil, false
	}
	session, ok := r.graph.sessions.find(sessionID)
	if !ok {
		return nil, true
	}
	list := r.graph.members.of(session)
	userIDs = make([]string, 0, len(list))
	for _, e := range list {
		if e.traits()&TraitLeft == 0 {
			userIDs = append(userIDs, string(r.graph.users.at(e.number())))
		}
	}
	return userIDs, true
}

// IsMember tells whether a user is a member of a session. A no is to be confirmed in PostgreSQL.
func (r *Roster) IsMember(userID string, sessionID uuid.UUID) (fresh, yes bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.fresh() {
		return false, false
	}
	user, known := r.graph.users.find(userID)
	session, there := r.graph.sessions.find(sessionID)
	if !known || !there {
		return true, false
	}
	e, ok := r.graph.joined.find(user, session)
	return true, ok && e.traits()&TraitLeft == 0
}

// Relation returns what user a marked user b as. relation.Unmarked is to be confirmed in PostgreSQL.
func (r *Roster) Relation(a, b string) (mark relation.Mark, fresh bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.fresh() {
		return relation.Unmarked, false
	}
	user, known := r.graph.users.find(a)
	other, there := r.graph.users.find(b)
	if !known || !there {
		return relation.Unmarked, true
	}
	e, _ := r.graph.peers.find(user, other) // no edge has no traits, which is Unmarked
	return relation.Mark(e.traits()), true
}
