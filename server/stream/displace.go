package stream

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

// Started ends the device's stream here if the one that started, here or on another node, is newer, and tells of it again
// if that is older. A stream that has no number yet is judged once it has.
func (m *Manager) Started(userID, deviceID string, number int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.live[deviceKey{userID, deviceID}]
	switch {
	case e == nil:
	case e.number == 0:
		e.newest = max(e.newest, number)
	case e.number < number:
		e.end(errDisplaced)
	case e.number > number:
		m.devices.Seen(userID, deviceID, e.number)
	}
}

// numbered gives a stream its number. It fails when a newer one has taken over, here or on another node.
func (m *Manager) numbered(s *Stream, number int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.live[deviceKey{s.userID, s.deviceID}]
	if e == nil || e.Stream != s || number < e.newest {
		return errDisplaced
	}
	e.number = number
	return nil
}
