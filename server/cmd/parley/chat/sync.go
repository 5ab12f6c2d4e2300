package chat

import (
	"context"
	"fmt"
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// holePatience is how long a message may be held back by a missing one before that is fetched.
const holePatience = 2 * time.Second

// start signs in and shows the latest messages. A server that is away is waited for.
func (c *Chat) start(ctx context.Context) error {
	var pause backoff
	for first := true; ; first = false {
		err := c.signIn(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p := problemOf(err)
		if !p.again {
			return err
		}
		if first {
			c.do(ctx, func() { c.ui.Note("waiting for " + c.cfg.Server + ": " + clean(p.text)) })
		}
		if err := c.api.recovered(ctx, p, &pause); err != nil {
			return err
		}
	}
}

func (c *Chat) signIn(ctx context.Context) error {
	if !c.api.token.has() {
		if err := c.api.token.refresh(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	page, err := c.latest(ctx)
	if err != nil {
		return err
	}
	c.do(ctx, func() { c.begin(page) })
	return nil
}

// latest returns the last page of history, an empty one for a direct session that has yet to begin.
func (c *Chat) latest(ctx context.Context) (*parleyv1.ListMessagesResponse, error) {
	page, err := c.api.messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: c.sessionID,
		Limit: int32(c.cfg.History)}) //nolint:gosec // at most 500
	if err != nil && c.cfg.Peer != "" && problemOf(err).reason == parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE {
		return &parleyv1.ListMessagesResponse{}, nil
	}
	return page, err
}

// begin shows the latest messages and opens the thread after them.
func (c *Chat) begin(page *parleyv1.ListMessagesResponse) {
	list := page.GetMessages()
	switch {
	case len(list) == 0:
		c.ui.Note("no messages yet: write the first one (/help tells more)")
		c.thread.open(page.GetHeadSeq())
	default:
		if page.GetHasMore() {
			c.ui.Note("/older shows earlier messages, /help tells more")
		}
		c.thread.open(list[0].GetSeq() - 1)
	}
	for _, m := range list {
		c.thread.add(m)
	}
	c.ready = true
	c.show()
}

// show shows what is next, as far as it is there.
func (c *Chat) show() {
	for {
		p, ok := c.thread.next()
		if !ok {
			break
		}
		m := p.entry
		if m == nil {
			c.ui.Note(fmt.Sprintf("messages %d to %d are not shown", p.from, p.to))
			continue
		}
		c.ui.Message(lineOf(m, c.cfg.User))
		if c.oldest == 0 {
			c.oldest = m.GetSeq()
		}
		c.receipts.saw(m, c.cfg.User, time.Now())
		if m.GetSenderId() != c.cfg.User {
			c.reads.set(c.sessionID, m.GetSeq())
			c.typing.stopped(m.GetSenderId(), time.Now())
		}
	}
	c.thread.wait(time.Now())
	if c.thread.opened && c.thread.shown > 0 {
		c.acks.set(c.sessionID, c.thread.shown)
	}
	c.stand()
	c.showStatus()
}

// stand notes where the stream resumes.
func (c *Chat) stand() {
	at := &parleyv1.SubscribeRequest{}
	for id, seq := range c.acks.want {
		at.Cursors = append(at.Cursors, &parleyv1.Cursor{SessionId: id, Seq: seq})
	}
	if len(at.Cursors) > 0 {
		at.Epoch = c.epoch
	}
	c.atMu.Lock()
	defer c.atMu.Unlock()
	c.at = at
}

func (c *Chat) subscription(ctx context.Context) *subscription {
	return &subscription{api: c.api,
		at: func() *parleyv1.SubscribeRequest {
			c.atMu.Lock()
			defer c.atMu.Unlock()
			return c.at
		},
		events: func(evs []*parleyv1.Event) {
			c.do(ctx, func() {
				for _, ev := range evs {
					c.event(ev)
				}
				c.show()
			})
		},
		up:   func() { c.do(ctx, func() { c.setConnected(true, "") }) },
		down: func(why string) { c.do(ctx, func() { c.setConnected(false, why) }) },
	}
}

func (c *Chat) setConnected(on bool, why string) {
	switch {
	case on && !c.connected:
		c.ui.Note("connected")
		c.receipts.stir(time.Now())
	case !on && c.connected:
		c.ui.Note("connection lost, trying again: " + clean(why))
	}
	c.connected = on
	c.showStatus()
}

// event takes one event of the stream.
func (c *Chat) event(ev *parleyv1.Event) {
	switch e := ev.GetKind().(type) {
	case *parleyv1.Event_Opened:
		c.epoch = e.Opened.GetEpoch()
	case *parleyv1.Event_Message:
		if e.Message.GetSessionId() != c.sessionID {
			c.acks.set(e.Message.GetSessionId(), e.Message.GetSeq()) // another conversation: it is only received
			return
		}
		c.thread.add(e.Message)
	case *parleyv1.Event_Skipped:
		c.skipped(e.Skipped)
	case *parleyv1.Event_Signal:
		c.signal(e.Signal)
	case *parleyv1.Event_Resync:
		c.resync(e.Resync)
	default: // the rest is of no use on this screen
	}
}

func (c *Chat) skipped(s *parleyv1.Skipped) {
	if s.GetSessionId() != c.sessionID {
		c.acks.set(s.GetSessionId(), s.GetToSeq())
		return
	}
	c.thread.leaveOut(s.GetFromSeq(), s.GetToSeq())
}

// resync drops what is known of the session, or of all, as the server asks for. keepHouse then reads history anew.
func (c *Chat) resync(r *parleyv1.Resync) {
	if id := r.GetSessionId(); id != "" {
		c.acks.forget(id)
		if id != c.sessionID {
			return
		}
	} else {
		c.acks.reset()
		c.epoch = r.GetEpoch()
	}
	c.ui.Note("the server asks to start afresh: the latest messages come again")
	c.thread, c.oldest = thread{}, 0
	c.reads.reset()
	c.receipts = receipts{}
}

// catchUp reads what the thread lacks from history: where to begin after a Resync, or what is missing before a message that
// is held back.
func (c *Chat) catchUp(ctx context.Context) {
	if c.loading || !c.ready || time.Now().Before(c.loadAfter) || c.thread.opened && !c.thread.hole(time.Now(), holePatience) {
		return
	}
	c.loading = true
	opened, after := c.thread.opened, c.thread.shown
	var page *parleyv1.ListMessagesResponse
	c.beside(ctx, func(ctx context.Context) (err error) {
		if !opened {
			page, err = c.latest(ctx)
			return err
		}
		page, err = c.api.messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: c.sessionID,
			Position: &parleyv1.ListMessagesRequest_AfterSeq{AfterSeq: after}, Limit: 200})
		return err
	}, func(err error) {
		c.loading = false
		if err != nil {
			c.loadAfter = time.Now().Add(holePatience)
			if !problemOf(err).again {
				c.fatal = err
			}
			return
		}
		if c.thread.opened != opened || c.thread.shown != after {
			return // things have moved on; if something is still missing, the next round sees it
		}
		if !opened {
			c.begin(page)
			return
		}
		c.fill(page.GetMessages())
	})
}

// fill puts a page of history that follows on what was shown into the thread. What lies between cannot be seen by the user.
func (c *Chat) fill(list []*parleyv1.Message) {
	for i, m := range list {
		if i == 0 {
			c.thread.skip(m.GetSeq() - 1)
		}
		c.thread.add(m)
	}
	c.show()
}
