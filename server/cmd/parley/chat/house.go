package chat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// positions are seqs of sessions that the server is told of: only the highest counts.
type positions struct {
	want, done map[string]int64
	busy       bool
}

func (p *positions) set(sessionID string, seq int64) {
	if p.want == nil {
		p.want, p.done = make(map[string]int64), make(map[string]int64)
	}
	p.want[sessionID] = max(p.want[sessionID], seq)
}

// due returns what the server does not know yet.
func (p *positions) due() map[string]int64 {
	out := make(map[string]int64)
	for id, seq := range p.want {
		if seq > p.done[id] && len(out) < maxAcks {
			out[id] = seq
		}
	}
	return out
}

func (p *positions) confirm(told map[string]int64) {
	for id, seq := range told {
		if p.done != nil {
			p.done[id] = max(p.done[id], seq)
		}
	}
}

// maxAcks is how many positions one Ack takes.
const maxAcks = 1000

// receipts tells who has read the last own message.
type receipts struct {
	last  int64 // seq of the last own message
	seq   int64 // the one to ask about; 0 when all is known
	known []string
	next  time.Time
	pause time.Duration
	busy  bool
}

const (
	receiptsFirst = time.Second
	receiptsMax   = 10 * time.Second
)

// own notes an own message as the last one.
func (r *receipts) own(m *parleyv1.Message) {
	if m.GetSeq() > r.last && !m.GetIsDeleted() && m.GetType() <= parleyv1.MessageType_MESSAGE_TYPE_CUSTOM {
		*r = receipts{last: m.GetSeq(), seq: m.GetSeq(), busy: r.busy}
	}
}

// keepHouse does what is due now and then. Its calls run beside the loop, one of each kind at a time.
func (c *Chat) keepHouse(ctx context.Context) {
	c.showTyping()
	if due := c.acks.due(); len(due) > 0 && !c.acks.busy && c.connected {
		c.acks.busy = true
		c.beside(ctx, func(ctx context.Context) error { return c.api.ack(ctx, due) }, func(err error) {
			c.acks.busy = false
			if err == nil {
				c.acks.confirm(due)
			}
		})
	}
	if due := c.reads.due(); len(due) > 0 && !c.reads.busy && c.connected {
		c.reads.busy = true
		c.beside(ctx, func(ctx context.Context) error { return c.api.markRead(ctx, due) }, func(err error) {
			c.reads.busy = false
			if err == nil {
				c.reads.confirm(due)
			}
		})
	}
	if c.thread.hole(time.Now(), holePatience) && !c.filling {
		c.fill(ctx)
	}
	if r := &c.readers; r.seq > 0 && !r.busy && time.Now().After(r.next) && c.connected {
		c.askReaders(ctx)
	}
}

// beside runs a call on a goroutine of its own and then done on the loop.
func (c *Chat) beside(ctx context.Context, call func(context.Context) error, done func(error)) {
	c.wg.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err := call(bounded)
		c.do(ctx, func() { done(err) })
	})
}

// fill fetches what is missing before a message that is held back.
func (c *Chat) fill(ctx context.Context) {
	c.filling = true
	after := c.thread.shown
	var page *parleyv1.ListMessagesResponse
	c.beside(ctx, func(ctx context.Context) (err error) {
		page, err = c.api.messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: c.sessionID,
			Position: &parleyv1.ListMessagesRequest_AfterSeq{AfterSeq: after}, Limit: 200})
		return err
	}, func(err error) {
		c.filling = false
		if err != nil {
			return
		}
		for i, m := range page.GetMessages() {
			if i == 0 && c.thread.shown == after {
				c.thread.skip(m.GetSeq() - 1) // what lies between cannot be seen
			}
			c.thread.add(m, time.Now())
		}
		c.show()
	})
}

// askReaders looks who has read the last own message, less often the longer nothing changes.
func (c *Chat) askReaders(ctx context.Context) {
	r := &c.readers
	r.busy = true
	seq := r.seq
	var page *parleyv1.ListReadersResponse
	c.beside(ctx, func(ctx context.Context) (err error) {
		page, err = c.api.states.ListReaders(ctx, &parleyv1.ListReadersRequest{SessionId: c.sessionID, Seq: seq})
		return err
	}, func(err error) {
		r := &c.readers
		r.busy = false
		r.pause = min(max(2*r.pause, receiptsFirst), receiptsMax)
		r.next = time.Now().Add(r.pause)
		if err != nil || r.seq != seq {
			return
		}
		var fresh []string
		for _, reader := range page.GetReaders() {
			if name := clean(reader.GetUserId()); !slices.Contains(r.known, name) {
				fresh = append(fresh, name)
			}
		}
		if len(fresh) == 0 {
			return
		}
		r.known = append(r.known, fresh...)
		c.ui.Note(fmt.Sprintf("✓✓ read by %s up to #%d", strings.Join(fresh, ", "), seq))
		if c.cfg.Peer != "" {
			r.seq = 0 // nobody else can
		}
	})
}

// tellTyping tells the others that somebody writes here.
func (c *Chat) tellTyping(ctx context.Context) {
	if time.Since(c.told) < typingEvery || !c.connected {
		return
	}
	c.told = time.Now()
	c.beside(ctx, func(ctx context.Context) error {
		_, err := c.api.sync.SendSignal(ctx, &parleyv1.SendSignalRequest{SessionId: c.sessionID,
			Signal: &parleyv1.Signal{Kind: &parleyv1.Signal_Typing{Typing: &parleyv1.Typing{IsTyping: true}}}})
		return err
	}, func(error) {}) // it may be lost
}

// leave tells the server what was seen, if it can be told soon.
func (c *Chat) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if due := c.acks.due(); len(due) > 0 {
		_ = c.api.ack(ctx, due)
	}
	if due := c.reads.due(); len(due) > 0 {
		_ = c.api.markRead(ctx, due)
	}
}

func (a *api) ack(ctx context.Context, at map[string]int64) error {
	req := &parleyv1.AckRequest{}
	for id, seq := range at {
		req.Acks = append(req.Acks, &parleyv1.Cursor{SessionId: id, Seq: seq})
	}
	_, err := a.sync.Ack(ctx, req)
	return err
}

func (a *api) markRead(ctx context.Context, at map[string]int64) error {
	for id, seq := range at {
		if _, err := a.states.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: seq}); err != nil {
			return err
		}
	}
	return nil
}
