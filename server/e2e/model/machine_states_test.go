package model

import (
	"slices"

	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// marked applies a change of states to the model, compares what was answered, and waits until the user's other devices
// know.
func (m *machine) marked(t *rapid.T, d *device, c *chat, apply func() marks, compare func(*member)) {
	own := c.members[d.user]
	before := *own
	made := apply()
	compare(own)
	if before.readSeq == own.readSeq && before.deletedTo == own.deletedTo && before.flag == own.flag &&
		len(made.read) == 0 && len(made.deleted) == 0 {
		return
	}
	want := c.state(d.user, made)
	m.told(t, d.user, d.name, want.String(), func(ev *parleyv1.Event) bool {
		return ev.GetState() != nil && tells(ev.GetState(), want)
	})
}

func (m *machine) markReadTo(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	seq := seq(t, c)
	got, err := d.MarkRead(m.ctx, &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: seq})
	if answered(t, err, c.markable(d.user, seq)) {
		m.marked(t, d, c, func() marks { return c.markReadTo(d.user, seq) }, func(own *member) {
			same(t, &parleyv1.MarkReadResponse{ReadSeq: own.readSeq, Unread: c.unread(d.user)}, got)
		})
	}
}

func (m *machine) markRead(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	seqs := seqs(t, c)
	got, err := d.MarkRead(m.ctx, &parleyv1.MarkReadRequest{SessionId: id, Seqs: seqs})
	if answered(t, err, c.markable(d.user, seqs...)) {
		m.marked(t, d, c, func() marks { return c.markRead(d.user, seqs) }, func(own *member) {
			same(t, &parleyv1.MarkReadResponse{ReadSeq: own.readSeq, Unread: c.unread(d.user)}, got)
		})
	}
}

func (m *machine) markUnread(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	_, err := d.MarkUnread(m.ctx, &parleyv1.MarkUnreadRequest{SessionId: id})
	if answered(t, err, c.markable(d.user)) {
		m.marked(t, d, c, func() (made marks) { c.members[d.user].flag = true; return made }, func(*member) {})
	}
}

func (m *machine) deleteTo(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	seq := seq(t, c)
	got, err := d.DeleteForMe(m.ctx, &parleyv1.DeleteForMeRequest{SessionId: id, UpToSeq: seq})
	if answered(t, err, c.markable(d.user, seq)) {
		m.marked(t, d, c, func() marks { return c.deleteTo(d.user, seq) }, func(own *member) {
			same(t, &parleyv1.DeleteForMeResponse{DeletedToSeq: own.deletedTo, Unread: c.unread(d.user)}, got)
		})
	}
}

func (m *machine) deleteSeqs(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	seqs := seqs(t, c)
	got, err := d.DeleteForMe(m.ctx, &parleyv1.DeleteForMeRequest{SessionId: id, Seqs: seqs})
	if answered(t, err, c.markable(d.user, seqs...)) {
		m.marked(t, d, c, func() marks { return c.deleteSeqs(d.user, seqs) }, func(own *member) {
			same(t, &parleyv1.DeleteForMeResponse{DeletedToSeq: own.deletedTo, Unread: c.unread(d.user)}, got)
		})
	}
}

func (m *machine) listStates(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	after, limit := rapid.Int64Range(0, 8).Draw(t, "after"), rapid.Int32Range(0, 4).Draw(t, "limit")
	got, err := d.ListStates(m.ctx, &parleyv1.ListStatesRequest{SessionId: id, AfterSeq: after, Limit: limit})
	if !answered(t, err, c.markable(d.user)) {
		return
	}
	seqs := c.seen(d.user, after)
	if limit > 0 {
		seqs = seqs[:min(len(seqs), int(limit))]
	}
	equal(t, "states", len(seqs), len(got.GetStates()))
	want := &parleyv1.ListStatesResponse{ReadSeq: c.members[d.user].readSeq, DeletedToSeq: c.members[d.user].deletedTo}
	for i, seq := range seqs {
		e := c.at(seq)
		if e.id == "" {
			e.id = got.GetStates()[i].GetMessageId()
		}
		want.States = append(want.States, &parleyv1.SeqState{Seq: seq, MessageId: e.id,
			IsRead: c.isRead(d.user, seq), IsDeleted: c.isDeleted(d.user, seq)})
	}
	same(t, want, got)
}

func (m *machine) listReaders(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	seq := seq(t, c)
	why := none
	switch {
	case c == nil || !c.in(d.user):
		why = parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
	case !c.visible(d.user, seq):
		why = parleyv1.ErrorReason_ERROR_REASON_MESSAGE_UNAVAILABLE
	}
	req := &parleyv1.ListReadersRequest{SessionId: id, Seq: seq, Limit: rapid.Int32Range(0, 2).Draw(t, "limit")}
	var users []string
	for {
		got, err := d.ListReaders(m.ctx, req)
		if !answered(t, err, why) {
			return
		}
		equal(t, "count", int64(len(c.readers(seq))), got.GetCount())
		for _, r := range got.GetReaders() {
			users = append(users, r.GetUserId())
		}
		if req.PageToken = got.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if want := c.readers(seq); !slices.Equal(want, users) {
		t.Fatalf("readers: want %v, got %v", want, users)
	}
}

func (m *machine) getUnread(t *rapid.T) {
	d := m.device(t)
	req := &parleyv1.GetUnreadRequest{}
	for _, c := range m.chats {
		if rapid.IntRange(0, 3).Draw(t, "named") == 0 {
			req.SessionIds = append(req.SessionIds, c.id)
		}
	}
	got, err := d.GetUnread(m.ctx, req)
	answered(t, err, none)
	want := &parleyv1.GetUnreadResponse{}
	for _, c := range m.sorted() {
		if len(req.GetSessionIds()) > 0 && !slices.Contains(req.GetSessionIds(), c.id) || !c.in(d.user) {
			continue
		}
		if n, flag := c.unread(d.user), c.members[d.user].flag; n > 0 || flag {
			want.Total += n
			want.Sessions = append(want.Sessions, &parleyv1.SessionUnread{SessionId: c.id, Unread: n, MarkedUnread: flag})
		}
	}
	same(t, want, got)
}
