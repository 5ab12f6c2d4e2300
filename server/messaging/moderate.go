package messaging

import (
	"context"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
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

// Moderate makes m judge what is sent from now on. To be called before the first Send.
func (s *Service) Moderate(m Moderator) { s.moderator = m }

// moderate leaves out the drafts that may not be sent, with their errors in out, and replaces those that are sent
// otherwise than written. Their digest stays that of what was written, so that a repeated send is known again.
func (s *Service) moderate(ctx context.Context, senderID string, drafts []message.Draft, place []int, out []Outcome) ([]message.Draft, []int, error) {
	if s.moderator == nil || len(drafts) == 0 || !s.moderator.Active() {
		return drafts, place, nil
	}
	verdicts, err := s.moderator.Judge(ctx, senderID, drafts)
	if err != nil {
		return nil, nil, err
	}
	kept, at := drafts[:0], place[:0]
	for i, v := range verdicts {
		if v.Err != nil {
			out[place[i]].Err = v.Err
			continue
		}
		d := drafts[i]
		if v.Body != nil {
			d.Type, d.Body = v.Type, v.Body
		}
		kept, at = append(kept, d), append(at, place[i])
	}
	return kept, at, nil
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
