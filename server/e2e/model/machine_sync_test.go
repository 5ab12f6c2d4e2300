package model

import (
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func (m *machine) ack(t *rapid.T) {
	d := m.device(t)
	req := &parleyv1.AckRequest{}
	for range rapid.IntRange(1, 3).Draw(t, "n") {
		c, id := m.someChat(t)
		if c != nil && c.members[d.user] != nil && rapid.IntRange(0, 9).Draw(t, "any seq") > 0 {
			seq := c.last(d.user)
			if rapid.Bool().Draw(t, "in part") {
				seq = rapid.Int64Range(0, seq).Draw(t, "seq")
			}
			req.Acks = append(req.Acks, &parleyv1.Cursor{SessionId: id, Seq: seq})
		} else {
			req.Acks = append(req.Acks, &parleyv1.Cursor{SessionId: id, Seq: seq(t, c)})
		}
	}
	_, err := d.Ack(m.ctx, req)
	if !answered(t, err, m.ackable(d.user, req.GetAcks())) {
		return
	}
	for _, a := range req.GetAcks() {
		if have, ok := d.acked[a.GetSessionId()]; !ok || a.GetSeq() > have {
			d.acked[a.GetSessionId()] = a.GetSeq()
		}
	}
}

func (m *machine) disconnect(t *rapid.T) {
	d := m.device(t)
	if d.live == nil {
		t.Skip("offline")
	}
	m.goOffline(d)
}

func (m *machine) goOffline(d *device) {
	d.live.close()
	for id, tr := range d.live.tracks {
		d.known[id] = d.bridge(m.chat(id), tr.at)
	}
	d.live = nil
}

// connect opens a stream: from the stored cursors, from the device's own ones, with a bound on the backlog, or afresh.
func (m *machine) connect(t *rapid.T) {
	d := m.device(t)
	req := &parleyv1.SubscribeRequest{MaxBacklog: rapid.SampledFrom([]int32{0, 0, 1, 3, 8}).Draw(t, "max backlog")}
	if d.live != nil {
		m.goOffline(d)
	}
	switch rapid.IntRange(0, 4).Draw(t, "how") {
	case 0, 1:
		for _, c := range m.chats {
			seq, ok := d.known[c.id]
			if !ok {
				continue
			}
			if rapid.IntRange(0, 9).Draw(t, "beyond the head") == 9 {
				seq = c.head() + 3
			}
			req.Cursors = append(req.Cursors, &parleyv1.Cursor{SessionId: c.id, Seq: seq})
		}
	case 2:
		req.Fresh = true
	}
	m.open(t, d, req)
}

// open subscribes and waits until the device has caught up.
func (m *machine) open(t *rapid.T, d *device, req *parleyv1.SubscribeRequest) {
	cursors := map[string]int64{}
	for _, c := range req.GetCursors() {
		cursors[c.GetSessionId()] = c.GetSeq()
	}
	l := &live{tracks: map[string]*track{}, own: map[string]map[int64]bool{}, resyncs: map[string]bool{},
		states: map[string]*parleyv1.StateEvent{}}
	for _, s := range d.opening(m.world, cursors, int64(req.GetMaxBacklog()), req.GetFresh()) {
		l.tracks[s.chat.id] = &track{at: s.from, skip: s.skip, initial: true}
		if s.beyond {
			l.resyncs[s.chat.id] = true
		}
	}
	l.stream = subscribe(d.api, req)
	d.live = l
	d.settled(t, m.world, "having caught up", func() bool { return l.caughtUp })
	if len(l.resyncs) > 0 {
		t.Fatalf("%s/%s: no resync for %v", d.user, d.name, l.resyncs)
	}
	for _, c := range m.chats {
		if l.tracks[c.id] != nil && !d.complete(c) {
			t.Fatalf("%s/%s has caught up at %d of %s, which ends at %d", d.user, d.name, l.tracks[c.id].at, c.id, c.last(d.user))
		}
	}
}

// pull pages through the backlog.
func (m *machine) pull(t *rapid.T) {
	d := m.device(t)
	req := &parleyv1.PullOfflineRequest{Limit: rapid.SampledFrom([]int32{0, 1, 2, 5}).Draw(t, "limit")}
	type place struct {
		id  string
		seq int64
	}
	starts := map[string]start{}
	for _, s := range d.opening(m.world, nil, 0, false) {
		starts[s.chat.id] = s
	}
	told := map[place]bool{}
	var all []*parleyv1.Message
	for {
		got, err := d.PullOffline(m.ctx, req)
		answered(t, err, none)
		if n := len(got.GetMessages()); req.GetLimit() > 0 && n > int(req.GetLimit()) {
			t.Fatalf("a page of %d has %d messages", req.GetLimit(), n)
		}
		all = append(all, got.GetMessages()...)
		for _, s := range got.GetSkipped() {
			for seq := s.GetFromSeq(); seq <= s.GetToSeq(); seq++ {
				told[place{s.GetSessionId(), seq}] = true
			}
		}
		if req.PageToken = got.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	n := 0
	for _, c := range m.sorted() {
		s, ok := starts[c.id]
		if !ok {
			continue
		}
		for seq, last := s.from+1, c.last(d.user); seq <= last; seq++ {
			if seq <= s.skip || !c.visible(d.user, seq) {
				if !told[place{c.id, seq}] {
					t.Fatalf("%s/%s: nothing is said about %s %d", d.user, d.name, c.id, seq)
				}
				continue
			}
			if told[place{c.id, seq}] || n == len(all) {
				t.Fatalf("%s/%s: %s %d is left out", d.user, d.name, c.id, seq)
			}
			same(t, c.messageFor(d.user, seq, all[n]), all[n])
			n++
		}
	}
	equal(t, "messages", n, len(all))
}
