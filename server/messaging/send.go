// Package messaging is what users do with messages: send them, take them back, read them.
package messaging

import (
	"context"
	"strconv"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/account"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// Committer is the way into the log.
type Committer interface {
	session.Committer
	// Send commits drafts and returns an outcome for each; the error is the context's.
	Send(ctx context.Context, drafts []message.Draft) ([]committer.Outcome, error)
}

// History reads the log back: all entries of each range, in order.
type History interface {
	Entries(ctx context.Context, ranges []message.Range) ([][]message.Entry, error)
}

// Service is safe for concurrent use.
type Service struct {
	log     Committer
	history History
	limits  cursor.Limits
	clock   clockwork.Clock
}

// NewService returns the service.
func NewService(log Committer, history History, limits cursor.Limits, clock clockwork.Clock) *Service {
	return &Service{log: log, history: history, limits: limits, clock: clock}
}

// Outgoing is a message as a client sends it: to SessionID, or to the direct session with Peer when that is set.
type Outgoing struct {
	SessionID uuid.UUID
	Peer      string
	MessageID uuid.UUID
	Content   *parleyv1.Content
	ReplyTo   int64
	Mentions  []string
}

// Outcome is the answer to one message: Receipt when Err is nil.
type Outcome struct {
	Receipt message.Receipt
	Err     error
}

// Send commits messages and returns an outcome for each, in order. They are independent of each other; those of one
// session keep their order. The error is the context's: then the outcomes are unknown.
func (s *Service) Send(ctx context.Context, by session.Actor, messages []Outgoing) ([]Outcome, error) {
	out := make([]Outcome, len(messages))
	drafts := make([]message.Draft, 0, len(messages))
	place := make([]int, 0, len(messages))
	for i, m := range messages {
		d, err := draft(by, m)
		if err != nil {
			out[i].Err = err
			continue
		}
		drafts, place = append(drafts, d), append(place, i)
	}
	committed, err := s.log.Send(ctx, drafts)
	if err != nil {
		return nil, err
	}
	for n, o := range committed {
		out[place[n]] = Outcome{o.Receipt, o.Err}
	}
	return out, nil
}

var selfTarget = refusal.New(refusal.SelfTarget, "A message needs another user as its target.", "field", "peer_user_id")

func draft(by session.Actor, m Outgoing) (message.Draft, error) {
	d := message.Draft{SessionID: m.SessionID, MessageID: m.MessageID, SenderID: by.UserID, SenderDevice: by.DeviceID,
		ReplyTo: m.ReplyTo, Peer: m.Peer}
	if m.Peer != "" {
		// It goes to the store beside what others send: what the store cannot take would fail all of it.
		if err := account.CheckID("peer_user_id", m.Peer); err != nil {
			return d, err
		}
		if m.Peer == by.UserID {
			return d, selfTarget
		}
		d.SessionID, _, _ = session.DirectID(by.UserID, m.Peer)
	}
	var ok bool
	if d.Type, ok = TypeOf(m.Content); !ok {
		return d, refusal.New(refusal.InvalidField, "Only text, attachment and custom can be sent.",
			"field", "content", "rule", "kind")
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(&parleyv1.Message{
		Content: m.Content, ReplyToSeq: m.ReplyTo, Mentions: m.Mentions})
	if err != nil {
		return d, refusal.New(refusal.InvalidField, "The content cannot be encoded.", "field", "content", "rule", "utf8")
	}
	d.Body, d.Digest = body, message.Digest(d.Type, body)
	return d, nil
}

// Recall takes a message back and returns the seq of the recall; that of the first one when it was recalled before.
// Refusals: SESSION_UNAVAILABLE, MESSAGE_UNAVAILABLE, NOT_RECALLABLE.
func (s *Service) Recall(ctx context.Context, by session.Actor, sessionID uuid.UUID, seq int64) (int64, error) {
	recallSeq := new(int64) // the change may still run when this call has ended
	err := s.log.Change(ctx, sessionID, func(ctx context.Context, l session.Log) error {
		m, err := recallable(ctx, l, by, seq)
		if err != nil {
			return err
		}
		if *recallSeq = m.RecallSeq; *recallSeq != 0 {
			return nil
		}
		e, err := l.Append(ctx, by, &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: seq}}}, s.clock.Now())
		if err != nil {
			return err
		}
		*recallSeq = e.Seq
		return l.Erase(ctx, seq, e.Seq)
	})
	if err != nil {
		return 0, err
	}
	return *recallSeq, nil
}

// recallable returns the message if the actor may recall it: senders their own, in groups admins those of members below
// them.
func recallable(ctx context.Context, l session.Log, by session.Actor, seq int64) (m session.LoggedMessage, err error) {
	own, mine, err := session.EnterTo(ctx, l, by, session.RecallOwn)
	if err != nil {
		return m, err
	}
	m, found, err := l.Message(ctx, seq)
	if err != nil {
		return m, err
	}
	if !found || !own.Visible.Contains(seq) {
		return m, unseen(seq)
	}
	if !m.Type.Countable() {
		return m, notRecallable
	}
	if m.SenderID == by.UserID {
		return m, nil
	}
	sender, err := session.PartOf(ctx, l, m.SenderID)
	if err != nil {
		return m, err
	}
	if session.AuthorizeOver(session.RecallOthers, mine, sender) != nil {
		return m, notRecallable
	}
	return m, nil
}

var notRecallable = refusal.New(refusal.NotRecallable, "You may not recall this entry.")

func unseen(seq int64) error {
	return refusal.New(refusal.MessageUnavailable, "There is no such message for you.", "seq", strconv.FormatInt(seq, 10))
}
