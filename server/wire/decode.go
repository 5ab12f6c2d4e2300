package wire

import (
	"errors"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
)

// Encoded returns the entry as an encoded parley.v1.Message, as caches keep it. Not to be changed.
func (e *Entry) Encoded() []byte { return e.message() }

var errNoEntry = errors.New("the bytes are no log entry")

// Decode turns an encoded parley.v1.Message, as Encoded gives it, back into an entry. The bytes are not trusted: what is
// no whole entry is an error.
func Decode(raw []byte) (*Entry, error) {
	var m parleyv1.Message
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, errNoEntry
	}
	session, err := uuid.Parse(m.GetSessionId())
	if err != nil {
		return nil, errNoEntry
	}
	id, err := uuid.Parse(m.GetMessageId())
	if err != nil || m.GetSeq() < 1 || m.GetCreatedAt().CheckValid() != nil || m.GetState() != nil {
		return nil, errNoEntry
	}
	e := message.Entry{SessionID: session, Seq: m.GetSeq(), MessageID: id, SenderID: m.GetSenderId(),
		SenderDevice: m.GetSenderDeviceId(), Type: message.Type(m.GetType()), IsDeleted: m.GetIsDeleted(), //nolint:gosec // small
		CreatedAt: time.Unix(m.GetCreatedAt().GetSeconds(), int64(m.GetCreatedAt().GetNanos())).UTC()}
	if !e.IsDeleted {
		e.Body, err = proto.MarshalOptions{Deterministic: true}.Marshal(&parleyv1.Message{
			Content: m.GetContent(), ReplyToSeq: m.GetReplyToSeq(), Mentions: m.GetMentions()})
		if err != nil {
			return nil, errNoEntry
		}
	}
	return Encode(e), nil
}
