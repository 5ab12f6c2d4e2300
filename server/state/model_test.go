package state_test

import (
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
)

// model is one session in memory. Everything that is asked of it is counted out by definition, entry by entry.
type model struct {
	log     []modelEntry // seq is the index + 1
	members map[string]*modelMember
}

type modelEntry struct {
	typ      message.Type
	sender   string
	recalled bool
}

type modelMember struct {
	seen      []session.Interval // of all memberships, as they were; they may overlap
	active    bool
	joined    int64
	readSeq   int64
	deletedTo int64
	flag      bool
	read      map[int64]bool // exceptions, never forgotten here
	deleted   map[int64]bool
}

func (m *model) head() int64              { return int64(len(m.log)) }
func (m *model) at(seq int64) *modelEntry { return &m.log[seq-1] }

func (m *model) append(sender string, typ message.Type) int64 {
	m.log = append(m.log, modelEntry{typ: typ, sender: sender})
	if typ.Countable() {
		u := m.members[sender]
		u.readSeq, u.flag = m.head(), false
	}
	return m.head()
}

func (m *model) join(user string, seq int64, fromStart bool) {
	u := m.members[user]
	if u == nil {
		u = &modelMember{read: map[int64]bool{}, deleted: map[int64]bool{}}
		m.members[user] = u
	}
	from := seq
	if fromStart {
		from = 1
	}
	u.active, u.joined = true, seq
	u.seen = append(u.seen, session.Interval{From: from, To: session.Open})
}

func (m *model) leave(user string, seq int64) {
	u := m.members[user]
	u.active = false
	u.seen[len(u.seen)-1].To = seq
}

func (m *model) visible(user string, seq int64) bool {
	u := m.members[user]
	return u != nil && seq >= 1 && seq <= m.head() &&
		slices.ContainsFunc(u.seen, func(i session.Interval) bool { return i.Contains(seq) })
}

func (m *model) last(user string) int64 {
	for seq := m.head(); seq > 0; seq-- {
		if m.visible(user, seq) {
			return seq
		}
	}
	return 0
}

func (m *model) isDeleted(user string, seq int64) bool {
	u := m.members[user]
	return seq <= u.deletedTo || u.deleted[seq]
}

func (m *model) isRead(user string, seq int64) bool {
	u, e := m.members[user], m.at(seq)
	return e.sender == user || !e.typ.Countable() || e.recalled || seq <= u.readSeq || u.read[seq] || m.isDeleted(user, seq)
}

func (m *model) unread(user string) (n int64) {
	u := m.members[user]
	for seq := u.joined; u.active && seq <= m.head(); seq++ {
		if !m.isRead(user, seq) {
			n++
		}
	}
	return n
}

func (m *model) readers(seq int64) []string {
	var out []string
	for _, user := range slices.Sorted(maps.Keys(m.members)) {
		u := m.members[user]
		if u.active && user != m.at(seq).sender && m.visible(user, seq) && (seq <= u.readSeq || u.read[seq]) {
			out = append(out, user)
		}
	}
	return out
}

func (m *model) absorb(user string) {
	u := m.members[user]
	for seq, last := u.readSeq+1, m.last(user); seq <= last; seq++ {
		if m.visible(user, seq) && !m.isRead(user, seq) {
			return
		}
		u.readSeq = seq
	}
}

func (m *model) markTo(user string, seq int64) {
	u := m.members[user]
	u.readSeq, u.flag = max(u.readSeq, seq), false
}

// mark returns the seqs that were made exceptions.
func (m *model) mark(user string, seqs []int64) (made []int64) {
	u := m.members[user]
	for _, seq := range seqs {
		if m.at(seq).typ.Countable() && seq > u.readSeq && !u.read[seq] {
			made = append(made, seq)
		}
	}
	for _, seq := range made {
		u.read[seq] = true
	}
	u.flag = false
	m.absorb(user)
	return made
}

func (m *model) deleteTo(user string, seq int64) {
	u := m.members[user]
	u.deletedTo, u.readSeq = max(u.deletedTo, seq), max(u.readSeq, seq)
}

// remove returns the seqs that were made exceptions.
func (m *model) remove(user string, seqs []int64) (made []int64) {
	u := m.members[user]
	for _, seq := range seqs {
		if !m.isDeleted(user, seq) {
			made = append(made, seq)
		}
		u.read[seq], u.deleted[seq] = true, true
	}
	m.absorb(user)
	return made
}

func (m *model) view(user string, id uuid.UUID) state.View {
	u := m.members[user]
	return state.View{
		SessionID: id, Active: u.active, ReadSeq: u.readSeq, DeletedToSeq: u.deletedTo, MarkedUnread: u.flag,
		Unread: m.unread(user),
	}
}
