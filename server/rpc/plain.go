package rpc

import (
	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Bounds of the proto's rules that plain relies on.
const (
	maxPlainText  = 16384 // Text.body
	maxPlainBatch = 256   // SendMessagesRequest.messages
	uuidLength    = 36    // the only form of a UUID that the rules take
)

// plain says whether a request is one of those that make up most of the traffic and plainly keeps all rules of its proto:
// texts to sessions. Finding that out by the compiled rules costs more than decoding the request. What is not plain, be it
// right or wrong, is judged by the rules.
func plain(message any) bool {
	switch m := message.(type) {
	case *parleyv1.SendMessageRequest:
		return plainText(m)
	case *parleyv1.SendMessagesRequest:
		for _, one := range m.GetMessages() {
			if !plainText(one) {
				return false
			}
		}
		return len(m.GetMessages()) >= 1 && len(m.GetMessages()) <= maxPlainBatch
	}
	return false
}

func plainText(m *parleyv1.SendMessageRequest) bool {
	target, session := m.GetTarget().(*parleyv1.SendMessageRequest_SessionId)
	content, text := m.GetContent().GetKind().(*parleyv1.Content_Text)
	if !session || !text || m.GetReplyToSeq() < 0 || len(m.GetMentions()) > 0 {
		return false
	}
	length := len(content.Text.GetBody())
	return length >= 1 && length <= maxPlainText && plainUUID(target.SessionId) && plainUUID(m.GetMessageId())
}

func plainUUID(s string) bool { return len(s) == uuidLength && uuid.Validate(s) == nil }
