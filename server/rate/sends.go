package rate

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/messaging"
)

// Sends bounds the messages of users and into sessions. A message that is refused for another reason costs nothing: nobody
// can use up the tokens of a session that they may not send to.
type Sends struct {
	messaging.Committer
	Limiter *Limiter
}

// Send implements messaging.Committer. Messages past a limit are refused one by one; all behind such a one that go to the
// same session are refused as well, so that a session's messages keep their order.
func (s Sends) Send(ctx context.Context, drafts []message.Draft) ([]committer.Outcome, error) {
	for i := range drafts {
		if err := s.admit(ctx, &drafts[i]); err != nil {
			return s.sendSome(ctx, drafts, i, err)
		}
	}
	out, err := s.Committer.Send(ctx, drafts)
	s.settle(drafts, out)
	return out, err
}

// sendSome goes on where the draft at position first was refused.
func (s Sends) sendSome(ctx context.Context, drafts []message.Draft, first int, why error) ([]committer.Outcome, error) {
	out := make([]committer.Outcome, len(drafts))
	out[first].Err = why
	closed := map[uuid.UUID]error{drafts[first].SessionID: why}
	admitted := append([]message.Draft(nil), drafts[:first]...)
	var place []int
	for i := first + 1; i < len(drafts); i++ {
		err := closed[drafts[i].SessionID]
		if err == nil {
			err = s.admit(ctx, &drafts[i])
		}
		if err != nil {
			closed[drafts[i].SessionID], out[i].Err = err, err
			continue
		}
		admitted, place = append(admitted, drafts[i]), append(place, i)
	}
	if len(admitted) == 0 {
		return out, nil
	}
	sent, err := s.Committer.Send(ctx, admitted)
	if err != nil {
		return nil, err
	}
	s.settle(admitted, sent)
	copy(out, sent[:first])
	for n, i := range place {
		out[i] = sent[first+n]
	}
	return out, nil
}

func userKey(d *message.Draft) Key    { return Key{Rule: MessagesUser, A: d.SenderID} }
func sessionKey(d *message.Draft) Key { return Key{Rule: MessagesSession, A: string(d.SessionID[:])} }

// admit takes a token of the user and one of the session, or neither.
func (s Sends) admit(ctx context.Context, d *message.Draft) error {
	if err := s.Limiter.Take(ctx, userKey(d)); err != nil {
		return err
	}
	if err := s.Limiter.Take(ctx, sessionKey(d)); err != nil {
		s.Limiter.Return(userKey(d))
		return err
	}
	return nil
}

// settle gives back what refused messages took from their session.
func (s Sends) settle(drafts []message.Draft, out []committer.Outcome) {
	for i := range out {
		if out[i].Err != nil {
			s.Limiter.Return(sessionKey(&drafts[i]))
		}
	}
}
