package model

import (
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// roamBacklog is how many of a session's last entries a new device gets; small, so that the bound is met.
const roamBacklog = 6

// start is where the backlog of one session begins for a device: what lies in (from, skip] is left out with notice, what
// is visible after skip comes.
type start struct {
	chat       *chat
	from, skip int64
	beyond     bool // the device asked for a position that is not there yet
}

// opening says where a device that subscribes (or pulls) starts, and takes over what the server keeps of it from then on.
// cursors are those of the request.
func (d *device) opening(w *world, cursors map[string]int64, maxBacklog int64, fresh bool) (out []start) {
	roams := !d.synced || fresh
	if roams {
		d.acked = map[string]int64{} // a new device has none, a fresh one forgets them
	}
	for _, c := range w.chats {
		m := c.members[d.user]
		if m == nil {
			continue
		}
		asked, named := cursors[c.id]
		if !named && !m.active && d.acked[c.id] >= m.left {
			continue // the end is known
		}
		s := start{chat: c, from: d.begin(c, roams)}
		last := c.last(d.user)
		limit := maxBacklog
		switch {
		case named && asked <= last:
			s.from = asked
		case named || roams:
			s.beyond = named
			if limit == 0 || limit > roamBacklog {
				limit = roamBacklog
			}
		}
		s.skip = s.from
		if limit > 0 {
			s.skip = max(s.skip, last-limit)
		}
		if s.beyond || roams && !named {
			s.skip = max(s.skip, min(m.deletedTo, last))
		}
		out = append(out, s)
	}
	if roams {
		d.synced = true
		for _, s := range out {
			d.acked[s.chat.id] = s.skip
		}
	}
	return out
}

// begin is the last seq of a chat that a device is taken to have: its cursor, or else what lies before the user came in,
// for a known device before the first time where earlier memberships are kept apart from the present one.
func (d *device) begin(c *chat, roams bool) int64 {
	if seq, ok := d.acked[c.id]; ok {
		return seq
	}
	m := c.members[d.user]
	from := m.joined - 1
	if n := len(m.spans); !roams && n > 1 && m.spans[n-1].from > 1 {
		for _, s := range m.spans {
			from = min(from, s.from-1)
		}
	}
	return from
}

// ackable says what stands against an Ack.
func (w *world) ackable(user string, acks []*parleyv1.Cursor) parleyv1.ErrorReason {
	for _, a := range acks {
		c := w.chat(a.GetSessionId())
		switch {
		case c == nil || c.members[user] == nil:
			return parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
		case a.GetSeq() > c.last(user):
			return parleyv1.ErrorReason_ERROR_REASON_CURSOR_BEYOND_HEAD
		}
	}
	return none
}
