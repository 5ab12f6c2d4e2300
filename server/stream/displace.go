package stream

import (
	"time"

	"github.com/parley-im/parley/server/refusal"
)

// Displacement over nodes. Every stream gets a number with the statement that tells where its device stands: from one
// sequence, so that the numbers of all nodes' streams compare. Its node tells the others, by a hint and by the commit log,
// and each ends its own stream of the device if that has a lower number.
//
// On one node a stream that registers ends the older one at once. So of two streams that open at the same time on one node
// only the later one takes part in this: an earlier one that gets its number afterwards is not told of any more, and
// could otherwise end the later one from its grave.
//
// A node whose feed lost its place may not have heard of newer streams. So it tells of its own once more (ReloadAll), and
// who hears of an older stream than their own tells of their own again.

// A call that waits long for its number (PostgreSQL does not answer its node) may be one that its device has given up
// without the node noticing; the number would be higher than that of the stream which the device opened elsewhere meanwhile.
// Such a late call goes by what its node knew when it came: first it counts as no newer than the newest stream that the node
// had heard of then, and tells that to the others. Where a newer stream of the device is live, its node tells of that again,
// and the late call ends with an error after which a device that is still there comes back with a new call. Where none is,
// the late call takes its own number after a while. So no clock decides which one stays, and nothing is asked of PostgreSQL.

const (
	// lateAfter is how long a call may wait for its number without counting as late.
	lateAfter = 2 * time.Second
	// settleAfter is how long a late call leaves others to say that they are newer: two ways through the commit log,
	// each a second to be written and one to be read, and one to spare.
	settleAfter = 5 * time.Second
)

var errLate = refusal.New(refusal.Unavailable, "This call waited long and another stream of the device began; reconnect and resume.",
	"retry_after_ms", "100")

// Started ends the device's stream here if the one that started, here or on another node, is newer, and tells of it again
// if that is older. A stream that has no number yet is judged once it has.
func (m *Manager) Started(userID, deviceID string, number int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.highest = max(m.highest, number)
	e := m.live[deviceKey{userID, deviceID}]
	switch {
	case e == nil:
	case e.number == 0:
		e.newest = max(e.newest, number)
	case e.number < number && e.later != 0:
		e.end(errLate)
	case e.number < number:
		e.end(errDisplaced)
	case e.number > number:
		m.devices.Seen(userID, deviceID, e.number)
	}
}

// numbered gives a stream its number, and returns as which one it counts. It fails when a newer one has taken over, here or
// on another node, or may have while the call waited long.
func (m *Manager) numbered(s *Stream, number int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.live[deviceKey{s.userID, s.deviceID}]
	if e == nil || e.Stream != s || number < e.newest {
		return 0, errDisplaced
	}
	now := m.clock.Now()
	switch late := now.Sub(e.began) > lateAfter; {
	case !late:
		e.number = number
	case e.newest > e.known:
		return 0, errLate
	default:
		e.number, e.later, e.settles = max(1, e.known), number, now.Add(settleAfter)
	}
	m.highest = max(m.highest, number)
	return e.number, nil
}

// Settle lets late calls that nobody contradicted take their numbers. To be called every second or so.
func (m *Manager) Settle() {
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.live {
		if e.later != 0 && !now.Before(e.settles) {
			e.number, e.later = e.later, 0
			m.devices.Seen(k.userID, k.deviceID, e.number)
		}
	}
}
