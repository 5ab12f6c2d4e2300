package chat

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Help lists the commands, a line each.
const Help = `/recall [n]  take back your last message, or the one with number n
/older       show earlier messages
/who         who is here, and how far they have read
/help        show this
/quit        leave, once everything is sent (twice, or Ctrl-C: at once)
//text       say "/text"`

// command runs a command, given without its slash.
func (c *Chat) command(ctx context.Context, line string) error {
	name, arg, _ := strings.Cut(line, " ")
	switch name {
	case "quit", "q", "exit":
		return c.quit()
	case "help":
		for l := range strings.Lines(Help) {
			c.ui.Note(strings.TrimSuffix(l, "\n"))
		}
	case "recall":
		c.afterSends(func() { c.recall(ctx, strings.TrimPrefix(strings.TrimSpace(arg), "#")) })
	case "older":
		c.afterSends(func() { c.older(ctx) })
	case "who":
		c.afterSends(func() { c.who(ctx) })
	default:
		c.ui.Note("there is no /" + clean(name) + "; /help tells what there is")
	}
	return nil
}

func (c *Chat) quit() error {
	if c.quitting {
		return errQuit
	}
	c.quitting = true
	if c.status.Waiting > 0 {
		c.ui.Note(fmt.Sprintf("leaving when %d more are sent; /quit again leaves at once", c.unsent))
	}
	return nil
}

func (c *Chat) recall(ctx context.Context, arg string) {
	seq := c.receipts.lastOwn()
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
	c.under(ctx, func(ctx context.Context) error {
		_, err := c.api.messages.RecallMessage(ctx, &parleyv1.RecallMessageRequest{SessionId: c.sessionID, Seq: seq})
		return err
	}, func(err error) {
		if err != nil {
			c.ui.Note("not recalled: " + clean(problemOf(err).text))
			return
		}
		c.receipts.recalled(seq)
	})
}

func (c *Chat) older(ctx context.Context) {
	if c.oldest <= 1 {
		c.ui.Note("there is nothing earlier")
		return
	}
	before := c.oldest
	var page *parleyv1.ListMessagesResponse
	c.under(ctx, func(ctx context.Context) (err error) {
		page, err = c.api.messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: c.sessionID,
			Position: &parleyv1.ListMessagesRequest_BeforeSeq{BeforeSeq: before}, Limit: int32(c.cfg.History)}) //nolint:gosec // at most 500
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

// maxWho is how many members /who lists.
const maxWho = 100

func (c *Chat) who(ctx context.Context) {
	var page *parleyv1.ListMembersResponse
	c.under(ctx, func(ctx context.Context) (err error) {
		page, err = c.api.sessions.ListMembers(ctx, &parleyv1.ListMembersRequest{SessionId: c.sessionID, Limit: maxWho})
		return err
	}, func(err error) {
		switch {
		case err == nil:
		case c.cfg.Peer != "" && problemOf(err).reason == parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE:
			c.ui.Note("nobody has written yet")
			return
		default:
			c.ui.Note("members not known: " + clean(problemOf(err).text))
			return
		}
		for _, m := range page.GetMembers() {
			c.ui.Note(memberLine(m))
		}
		if page.GetNextPageToken() != "" {
			c.ui.Note("and more")
		}
	})
}

func memberLine(m *parleyv1.Member) string {
	line := clean(m.GetUserId())
	if name := clean(m.GetDisplayName()); name != "" {
		line += " (" + name + ")"
	}
	if r := m.GetRole(); r > parleyv1.MemberRole_MEMBER_ROLE_MEMBER {
		line += ", " + roleName(r)
	}
	if m.GetIsMuted() {
		line += ", muted"
	}
	return fmt.Sprintf("%s, has read up to #%d", line, m.GetReadSeq())
}
