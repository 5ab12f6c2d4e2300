package model

import (
	"google.golang.org/protobuf/proto"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func (msg message) request() *parleyv1.SendMessageRequest {
	req := &parleyv1.SendMessageRequest{MessageId: msg.id, Content: text(msg.body), ReplyToSeq: msg.reply}
	if msg.peer != "" {
		req.Target = &parleyv1.SendMessageRequest_PeerUserId{PeerUserId: msg.peer}
	} else {
		req.Target = &parleyv1.SendMessageRequest_SessionId{SessionId: msg.session}
	}
	return req
}

func text(body string) *parleyv1.Content {
	return &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}}
}

// draft makes up a message with a new id.
func (m *machine) draft(t *rapid.T) message {
	msg := message{id: uuid.NewString(), body: rapid.SampledFrom([]string{"a", "b", "ü"}).Draw(t, "body")}
	var c *chat
	if len(m.chats) == 0 || rapid.IntRange(0, 3).Draw(t, "to a user") == 3 {
		msg.peer = m.user(t)
	} else {
		c, msg.session = m.someChat(t)
	}
	if rapid.IntRange(0, 4).Draw(t, "reply") == 4 {
		msg.reply = seq(t, c)
	}
	return msg
}

func (m *machine) send(t *rapid.T) { m.sendAs(t, m.device(t), m.draft(t)) }

func (m *machine) sendAs(t *rapid.T, d *device, msg message) {
	want := m.judged(d, msg, m.headOf(d, msg))
	got, err := d.SendMessage(m.ctx, msg.request())
	if answered(t, err, want.why) {
		m.sent(t, d, msg, want, got)
	}
}

// sendAgain uses an id that the user, somebody else, or the user elsewhere has used before, with the same body or another.
func (m *machine) sendAgain(t *rapid.T) {
	d, msg := m.device(t), m.again(t)
	if rapid.IntRange(0, 2).Draw(t, "another sender") != 2 {
		for _, other := range m.devices {
			if e := m.find(msg.id); e.sender == other.user {
				d = other // the first of the user's devices; which one does not matter
			}
		}
	}
	m.sendAs(t, d, msg)
}

// again makes up a message with an id that was used.
func (m *machine) again(t *rapid.T) message {
	var all []message
	for _, c := range m.chats {
		for _, e := range c.log {
			if e.countable() {
				all = append(all, message{session: c.id, id: e.id, body: e.content.GetText().GetBody(), reply: e.reply})
			}
		}
	}
	if len(all) == 0 {
		t.Skip("nothing was sent")
	}
	msg := all[rapid.IntRange(0, len(all)-1).Draw(t, "earlier")]
	switch rapid.IntRange(0, 5).Draw(t, "how") {
	case 0:
		msg.body += "!"
	case 1:
		msg.reply = 1 - min(msg.reply, 1)
	case 2:
		_, msg.session = m.someChat(t)
	}
	return msg
}

func (m *machine) find(id string) *entry {
	for _, c := range m.chats {
		for _, e := range c.log {
			if e.id == id {
				return e
			}
		}
	}
	return &entry{}
}

func (m *machine) sendMany(t *rapid.T) {
	d := m.device(t)
	n := rapid.IntRange(1, 6).Draw(t, "n")
	items := make([]message, 0, n)
	req := &parleyv1.SendMessagesRequest{}
	for range n {
		msg := m.draft(t)
		if n := len(items); n > 0 {
			switch rapid.IntRange(0, 4).Draw(t, "of the batch") {
			case 0: // to the same chat
				msg.session, msg.peer, msg.reply = items[n-1].session, items[n-1].peer, 0
			case 1: // the same again
				msg = items[rapid.IntRange(0, n-1).Draw(t, "which")]
			case 2: // the same id, another body
				msg = items[rapid.IntRange(0, n-1).Draw(t, "which")]
				msg.body, msg.reply = msg.body+"?", 0
			}
		}
		msg.reply = min(msg.reply, m.headOf(d, msg)) // a seq that the call itself makes cannot be known
		items = append(items, msg)
		req.Messages = append(req.Messages, msg.request())
	}
	heads := make([]int64, n)
	for i, msg := range items {
		heads[i] = m.headOf(d, msg)
	}
	res, err := d.SendMessages(m.ctx, req)
	answered(t, err, none)
	equal(t, "results", n, len(res.GetResults()))
	for i, r := range res.GetResults() {
		want := m.judged(d, items[i], heads[i])
		equal(t, "reason", want.why, r.GetError().GetDetail().GetReason())
		equal(t, "code", int32(codes[want.why]), r.GetError().GetCode()) //nolint:gosec // at most 16
		if want.why == none {
			m.sent(t, d, items[i], want, r.GetSent())
		}
	}
}

func (m *machine) headOf(d *device, msg message) int64 {
	if c := m.target(d, msg); c != nil {
		return c.head()
	}
	return 0
}

type verdict struct {
	old *entry
	seq int64
	why parleyv1.ErrorReason
}

func (m *machine) judged(d *device, msg message, head int64) (v verdict) {
	v.old, v.seq, v.why = m.judge(d, msg, head)
	return v
}

// sent compares a receipt, and writes the entry into the model if it is new.
func (m *machine) sent(t *rapid.T, d *device, msg message, want verdict, got *parleyv1.SendMessageResponse) {
	c := m.target(d, msg)
	if c == nil {
		if m.chat(got.GetSessionId()) != nil {
			t.Fatalf("a new direct session has the id of another: %s", got.GetSessionId())
		}
		c = &chat{id: got.GetSessionId(), direct: true, members: map[string]*member{}}
		c.join(d.user, 1, plain)
		c.join(msg.peer, 1, plain)
		m.chats = append(m.chats, c)
	}
	equal(t, "session", c.id, got.GetSessionId())
	equal(t, "message id", msg.id, got.GetMessageId())
	if want.old != nil {
		equal(t, "seq of a repeat", want.seq, got.GetSeq())
		if !proto.Equal(want.old.at, got.GetCreatedAt()) {
			t.Fatalf("time of a repeat: want %v, got %v", want.old.at, got.GetCreatedAt())
		}
		return
	}
	seq := c.append(&entry{sender: d.user, device: d.name, kind: parleyv1.MessageType_MESSAGE_TYPE_TEXT, id: msg.id,
		content: text(msg.body), reply: msg.reply, at: got.GetCreatedAt()})
	equal(t, "seq", seq, got.GetSeq())
	if d.live != nil {
		if d.live.own[c.id] == nil {
			d.live.own[c.id] = map[int64]bool{}
		}
		d.live.own[c.id][seq] = true
	}
}

func (m *machine) recall(t *rapid.T) {
	d := m.device(t)
	c, id := m.someChat(t)
	seq := seq(t, c)
	why := c.recallable(d.user, seq)
	got, err := d.RecallMessage(m.ctx, &parleyv1.RecallMessageRequest{SessionId: id, Seq: seq})
	if !answered(t, err, why) {
		return
	}
	e := c.at(seq)
	if e.recalledBy == 0 {
		e.recalledBy = c.event(d, &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: seq}}})
	}
	equal(t, "seq of the recall", e.recalledBy, got.GetSeq())
}
