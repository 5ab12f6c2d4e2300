package model

import (
	"slices"
	"strings"

	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// sorted lists the chats by id.
func (w *world) sorted() []*chat {
	return slices.SortedFunc(slices.Values(w.chats), func(a, b *chat) int { return strings.Compare(a.id, b.id) })
}

func (m *machine) listMessages(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	req := &parleyv1.ListMessagesRequest{SessionId: id, Limit: rapid.Int32Range(0, 4).Draw(t, "limit")}
	after, before := int64(-1), int64(-1)
	switch rapid.IntRange(0, 2).Draw(t, "from where") {
	case 0:
		after = seq(t, c) - 1
		req.Position = &parleyv1.ListMessagesRequest_AfterSeq{AfterSeq: after}
	case 1:
		before = seq(t, c)
		req.Position = &parleyv1.ListMessagesRequest_BeforeSeq{BeforeSeq: before}
	}
	got, err := d.ListMessages(m.ctx, req)
	if !answered(t, err, c.markable(d.user)) {
		return
	}
	seqs, more := c.page(d.user, after, before, int(req.GetLimit()))
	equal(t, "messages", len(seqs), len(got.GetMessages()))
	want := &parleyv1.ListMessagesResponse{HeadSeq: c.last(d.user), HasMore: more}
	for i, seq := range seqs {
		want.Messages = append(want.Messages, c.messageFor(d.user, seq, got.GetMessages()[i]))
	}
	same(t, want, got)
	m.getMessage(t, d, c)
}

func (m *machine) getMessage(t *rapid.T, d *device, c *chat) {
	seq := seq(t, c)
	got, err := d.GetMessage(m.ctx, &parleyv1.GetMessageRequest{SessionId: c.id, Seq: seq})
	if !c.visible(d.user, seq) {
		answered(t, err, parleyv1.ErrorReason_ERROR_REASON_MESSAGE_UNAVAILABLE)
		return
	}
	answered(t, err, none)
	same(t, c.messageFor(d.user, seq, got.GetMessage()), got.GetMessage())
}

// viewed is a session as it is read back: with its last message.
func (c *chat) viewed(user string, got *parleyv1.Session) *parleyv1.Session {
	want := c.session(user, got)
	want.LastMessage = c.messageFor(user, c.last(user), got.GetLastMessage())
	return want
}

func (m *machine) getSession(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	got, err := d.GetSession(m.ctx, &parleyv1.GetSessionRequest{SessionId: id})
	if answered(t, err, c.markable(d.user)) {
		same(t, c.viewed(d.user, got.GetSession()), got.GetSession())
	}
}

func (m *machine) listSessions(t *rapid.T) {
	d := m.device(t)
	req := &parleyv1.ListSessionsRequest{IncludeLeft: rapid.Bool().Draw(t, "left too"), Limit: rapid.Int32Range(0, 2).Draw(t, "limit")}
	var all []*parleyv1.Session
	for {
		got, err := d.ListSessions(m.ctx, req)
		answered(t, err, none)
		all = append(all, got.GetSessions()...)
		if req.PageToken = got.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	n := 0
	for _, c := range m.sorted() {
		if mem := c.members[d.user]; mem == nil || !mem.active && !req.GetIncludeLeft() {
			continue
		}
		if n == len(all) {
			t.Fatalf("session %s is not listed", c.id)
		}
		same(t, c.viewed(d.user, all[n]), all[n])
		n++
	}
	equal(t, "sessions", n, len(all))
}
