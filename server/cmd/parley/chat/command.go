package chat

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Help tells what can be entered.
const Help = `/recall [#]  take back your last message, or the one with this number
/older       show earlier messages
/who         who is here
/quit        leave (or Ctrl-D)
//text       say "/text"`

// entered takes a line: a command, or something to say. errQuit asks to leave.
func (c *Chat) entered(ctx context.Context, line string) error {
	line = strings.TrimRight(line, " \r")
	switch {
	case line == "":
		return nil
	case strings.HasPrefix(line, "//"):
		return c.say(ctx, line[1:])
	case !strings.HasPrefix(line, "/"):
		return c.say(ctx, line)
	}
	name, arg, _ := strings.Cut(line[1:], " ")
	switch name {
	case "quit", "q", "exit":
		return errQuit
	case "help":
		for _, l := range strings.Split(Help, "\n") {
			c.ui.Note(l)
		}
	case "recall":
		c.recall(ctx, strings.TrimPrefix(strings.TrimSpace(arg), "#"))
	case "older":
		c.older(ctx)
	case "who":
		c.who(ctx)
	default:
		c.ui.Note("there is no /" + clean(name) + "; /help tells what there is")
	}
	return nil
}

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

func (c *Chat) recall(ctx context.Context, arg string) {
	if arg == "" && c.unsent > 0 { // the last message has no number yet
		c.later = append(c.later, func() { c.recall(ctx, "") })
		return
	}
	seq := c.readers.last
	if arg != "" {
		n, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || n < 1 {
			c.ui.Note("/recall takes the number of a message, such as /recall 12")
			return
		}
		seq = n
	}
	if seq == 0 {
		c.ui.Note("there is no message of yours to recall")
		return
	}
	c.unsent++
	c.beside(ctx, func(ctx context.Context) error {
		_, err := c.api.messages.RecallMessage(ctx, &parleyv1.RecallMessageRequest{SessionId: c.sessionID, Seq: seq})
		return err
	}, func(err error) {
		if err != nil {
			c.ui.Note("not recalled: " + clean(problemOf(err).text))
		} else {
			c.ui.Note(fmt.Sprintf("#%d is recalled", seq))
		}
		c.settled()
	})
}

func (c *Chat) older(ctx context.Context) {
	if c.oldest <= 1 {
		c.ui.Note("there is nothing earlier")
		return
	}
	before := c.oldest
	var page *parleyv1.ListMessagesResponse
	c.beside(ctx, func(ctx context.Context) (err error) {
		page, err = c.api.messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: c.sessionID,
			Position: &parleyv1.ListMessagesRequest_BeforeSeq{BeforeSeq: before}, Limit: int32(c.cfg.History)}) //nolint:gosec // the server bounds it
		return err
	}, func(err error) {
		switch {
		case err != nil:
			c.ui.Note("no earlier messages: " + clean(problemOf(err).text))
			return
		case len(page.GetMessages()) == 0:
			c.ui.Note("there is nothing earlier")
			return
		}
		c.ui.Note("earlier:")
		for _, m := range page.GetMessages() {
			c.ui.Message(lineOf(m, c.cfg.User))
		}
		c.oldest = page.GetMessages()[0].GetSeq()
		c.ui.Note("end of the earlier messages")
	})
}

func (c *Chat) who(ctx context.Context) {
	var page *parleyv1.ListMembersResponse
	c.beside(ctx, func(ctx context.Context) (err error) {
		page, err = c.api.sessions.ListMembers(ctx, &parleyv1.ListMembersRequest{SessionId: c.sessionID})
		return err
	}, func(err error) {
		if err != nil {
			c.ui.Note("members not known: " + clean(problemOf(err).text))
			return
		}
		for _, m := range page.GetMembers() {
			role := strings.ToLower(strings.TrimPrefix(m.GetRole().String(), "MEMBER_ROLE_"))
			c.ui.Note(fmt.Sprintf("%s (%s, has read up to #%d)", clean(m.GetUserId()), role, m.GetReadSeq()))
		}
		if page.GetNextPageToken() != "" {
			c.ui.Note("and more")
		}
	})
}
