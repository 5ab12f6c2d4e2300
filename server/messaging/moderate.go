package messaging

import (
	"context"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
)

// Verdict is what becomes of one draft. The zero value lets it pass.
type Verdict struct {
	Err  error // it is not sent
	Type message.Type
	Body []byte // what is sent in its place, of Type; nil: what was written
}

// Moderator judges drafts before they are committed, outside any transaction. Safe for concurrent use.
type Moderator interface {
	// Active reports whether there is anything to ask.
	Active() bool
	// Judge returns a verdict for each of a sender's drafts, within a bounded time. The error is the context's or the
	// store's; nothing was sent then.
	Judge(ctx context.Context, senderID string, drafts []message.Draft) ([]Verdict, error)
}

// Moderated is a committer that has drafts judged first. It stands behind what is cheaper to ask, such as rates.
type Moderated struct {
	Committer
	Moderator Moderator
}

// Send implements Committer for the drafts of one sender. It leaves out those that may not be sent, and replaces those that
// are sent otherwise than written. Their digest stays that of what was written, so that a repeated send is known again.
func (m Moderated) Send(ctx context.Context, drafts []message.Draft) ([]committer.Outcome, error) {
	if len(drafts) == 0 || !m.Moderator.Active() {
		return m.Committer.Send(ctx, drafts)
	}
	verdicts, err := m.Moderator.Judge(ctx, drafts[0].SenderID, drafts)
	if err != nil {
		return nil, err
	}
	out := make([]committer.Outcome, len(drafts))
	kept, place := make([]message.Draft, 0, len(drafts)), make([]int, 0, len(drafts))
	for i, v := range verdicts {
		if v.Err != nil {
			out[i].Err = v.Err
			continue
		}
		d := drafts[i]
		if v.Body != nil {
			d.Type, d.Body = v.Type, v.Body
		}
		kept, place = append(kept, d), append(place, i)
	}
	if len(kept) == 0 {
		return out, nil
	}
	committed, err := m.Committer.Send(ctx, kept)
	if err != nil {
		return nil, err
	}
	for n, o := range committed {
		out[place[n]] = o
	}
	return out, nil
}

// TypeOf is the type of what users write; ok is false for everything else.
func TypeOf(c *parleyv1.Content) (t message.Type, ok bool) {
	switch c.GetKind().(type) {
	case *parleyv1.Content_Text:
		return message.TypeText, true
	case *parleyv1.Content_Attachment:
		return message.TypeAttachment, true
	case *parleyv1.Content_Custom:
		return message.TypeCustom, true
	default:
		return 0, false
	}
}
