package chat

import (
	"context"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// maxOutbox is how many messages may wait to be sent; entering more waits.
const maxOutbox = 256

// outbox sends one message after the other. Each keeps its id however often it is repeated, so that a lost answer makes
// no second message.
type outbox struct {
	api     *api
	waiting chan *parleyv1.SendMessageRequest
	// delayed is called when a send did not work at the first try, sent and refused when its fate is certain. All are
	// called by the outbox's goroutine.
	delayed func(why string)
	sent    func(*parleyv1.SendMessageRequest, *parleyv1.SendMessageResponse)
	refused func(problem)
}

func newMessage(text string) (*parleyv1.SendMessageRequest, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	return &parleyv1.SendMessageRequest{MessageId: id.String(),
		Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: text}}}}, nil
}

// run sends until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for {
		select {
		case req := <-o.waiting:
			o.send(ctx, req)
		case <-ctx.Done():
			return
		}
	}
}

// send repeats until the server has said yes or no.
func (o *outbox) send(ctx context.Context, req *parleyv1.SendMessageRequest) {
	var pause backoff
	for first := true; ; first = false {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		res, err := o.api.messages.SendMessage(call, req)
		cancel()
		if err == nil {
			o.sent(req, res)
			return
		}
		if ctx.Err() != nil {
			return
		}
		p := problemOf(err)
		if !p.again {
			o.refused(p)
			return
		}
		if first {
			o.delayed(p.text)
		}
		if err := o.api.recovered(ctx, p, &pause); err != nil {
			if ctx.Err() == nil {
				o.refused(problemOf(err))
			}
			return
		}
	}
}
