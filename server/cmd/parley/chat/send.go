package chat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

var errQuit = errors.New("quit")

// entered takes a line: a command, or something to say. errQuit asks to leave at once.
func (c *Chat) entered(ctx context.Context, line string) error {
	line = strings.TrimRight(line, " \t\r")
	switch {
	case line == "":
		return nil
	case strings.HasPrefix(line, "//"):
		return c.say(ctx, line[1:])
	case !strings.HasPrefix(line, "/"):
		return c.say(ctx, line)
	}
	return c.command(ctx, line[1:])
}

// say puts a text into the outbox.
func (c *Chat) say(ctx context.Context, text string) error {
	req, err := newMessage(text)
	if err != nil {
		return err
	}
	if c.cfg.Peer != "" {
		req.Target = &parleyv1.SendMessageRequest_PeerUserId{PeerUserId: c.cfg.Peer}
	} else {
		req.Target = &parleyv1.SendMessageRequest_SessionId{SessionId: c.sessionID}
	}
	c.unsent++
	c.typing.said()
	c.showStatus()
	for {
		select {
		case c.out.waiting <- req:
			return nil
		case fn := <-c.calls: // the outbox may need the loop to make room
			fn()
		case <-ctx.Done():
			return nil
		}
	}
}

// sent takes the answer to an own message, which takes its place in the live stream.
func (c *Chat) sent(req *parleyv1.SendMessageRequest, res *parleyv1.SendMessageResponse) {
	if c.epoch == "" {
		c.epoch = res.GetEpoch()
	}
	c.thread.add(&parleyv1.Message{SessionId: res.GetSessionId(), Seq: res.GetSeq(), MessageId: res.GetMessageId(),
		SenderId: c.cfg.User, Content: req.GetContent(), CreatedAt: res.GetCreatedAt(),
		Type: parleyv1.MessageType_MESSAGE_TYPE_TEXT})
	c.show()
	c.settled()
}

// setDelayed notes that a message did not get through at the first try.
func (c *Chat) setDelayed(why string) {
	if c.connected {
		c.ui.Note("not sent yet, trying again: " + clean(why))
	}
	c.delayed = true
	c.showStatus()
}

func (c *Chat) refused(p problem) {
	c.refusals++
	text := "not sent: " + clean(p.text)
	if p.reason == parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_UNAVAILABLE && c.cfg.Peer != "" {
		peer := clean(c.cfg.Peer)
		text = fmt.Sprintf("not sent: %s cannot be reached. Either there is no user of that name (users come into being "+
			"with their first token: parley token --user %s ...), or %s is deactivated or has blocked you.", peer, peer, peer)
	}
	c.ui.Note(text)
	c.settled()
}

// settled notes that the fate of something entered is certain.
func (c *Chat) settled() {
	c.unsent--
	c.delayed = false
	c.runLater()
	c.showStatus()
}

// afterSends runs a command when everything entered before it is certain, so that /recall finds the message before it.
func (c *Chat) afterSends(fn func()) {
	c.later = append(c.later, fn)
	c.runLater()
}

func (c *Chat) runLater() {
	for c.unsent == 0 && len(c.later) > 0 {
		fn := c.later[0]
		c.later = c.later[1:]
		fn()
	}
}

// under counts a call as unsettled until it has its answer.
func (c *Chat) under(ctx context.Context, call func(context.Context) error, done func(error)) {
	c.unsent++
	c.beside(ctx, call, func(err error) {
		done(err)
		c.settled()
	})
}

// showStatus tells the UI how things are. Messages that are merely on their way do not count as waiting.
func (c *Chat) showStatus() {
	now := Status{Typing: c.typing.names(time.Now()), Offline: !c.connected}
	if c.delayed || c.unsent > 0 && !c.connected {
		now.Waiting = c.unsent
	}
	if !now.equal(c.status) {
		c.status = now
		c.ui.Status(now)
	}
}
