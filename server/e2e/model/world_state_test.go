package model

import (
	"maps"
	"slices"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func (c *chat) isDeleted(user string, seq int64) bool {
	m := c.members[user]
	return seq <= m.deletedTo || m.deleted[seq]
}

// isRead: entries that do not count as unread have nothing to be read.
func (c *chat) isRead(user string, seq int64) bool {
	m, e := c.members[user], c.at(seq)
	return e.sender == user || !e.countable() || e.recalledBy != 0 || seq <= m.readSeq || m.read[seq] || c.isDeleted(user, seq)
}

// unread counts from the present membership on; nothing is unread after its end.
func (c *chat) unread(user string) (n int64) {
	m := c.members[user]
	for seq := m.joined; m.active && seq <= c.head(); seq++ {
		if !c.isRead(user, seq) {
			n++
		}
	}
	return n
}

func (w *world) unreadTotal(user string) (n int64) {
	for _, c := range w.chats {
		if c.in(user) {
			n += c.unread(user)
		}
	}
	return n
}

// readers are the members who see an entry and have read it, without its sender.
func (c *chat) readers(seq int64) (out []string) {
	for _, user := range slices.Sorted(maps.Keys(c.members)) {
		m := c.members[user]
		if m.active && user != c.at(seq).sender && c.visible(user, seq) && (seq <= m.readSeq || m.read[seq]) {
			out = append(out, user)
		}
	}
	return out
}

// markable says what stands against marking seqs.
func (c *chat) markable(user string, seqs ...int64) parleyv1.ErrorReason {
	if c == nil || c.members[user] == nil {
		return parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
	}
	last := c.last(user)
	for _, seq := range slices.Sorted(slices.Values(seqs)) {
		switch {
		case seq > last:
			return parleyv1.ErrorReason_ERROR_REASON_CURSOR_BEYOND_HEAD
		case !c.visible(user, seq):
			return parleyv1.ErrorReason_ERROR_REASON_CURSOR_INVISIBLE
		}
	}
	return none
}

// absorb moves the watermark over what needs no reading.
func (c *chat) absorb(user string) {
	m := c.members[user]
	for seq, last := m.readSeq+1, c.last(user); seq <= last; seq++ {
		if c.visible(user, seq) && !c.isRead(user, seq) {
			return
		}
		m.readSeq = seq
	}
}

// marks is what a change of states made beside moving cursors, ascending.
type marks struct{ read, deleted []int64 }

func (c *chat) markReadTo(user string, seq int64) (made marks) {
	m := c.members[user]
	m.readSeq, m.flag = max(m.readSeq, seq), false
	return made
}

func (c *chat) markRead(user string, seqs []int64) (made marks) {
	m := c.members[user]
	for _, seq := range distinct(seqs) {
		if c.at(seq).countable() && seq > m.readSeq && !m.read[seq] {
			made.read = append(made.read, seq)
			m.read[seq] = true
		}
	}
	m.flag = false
	c.absorb(user)
	made.read = slices.DeleteFunc(made.read, func(seq int64) bool { return seq <= m.readSeq })
	return made
}

func (c *chat) deleteTo(user string, seq int64) (made marks) {
	m := c.members[user]
	m.deletedTo, m.readSeq = max(m.deletedTo, seq), max(m.readSeq, seq)
	return made
}

func (c *chat) deleteSeqs(user string, seqs []int64) (made marks) {
	m := c.members[user]
	for _, seq := range distinct(seqs) {
		if !c.isDeleted(user, seq) {
			made.deleted = append(made.deleted, seq)
		}
		m.read[seq], m.deleted[seq] = true, true
	}
	c.absorb(user)
	return made
}

func distinct(seqs []int64) []int64 { return slices.Compact(slices.Sorted(slices.Values(seqs))) }
