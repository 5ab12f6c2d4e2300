package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"sync"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
)

// Entry is a log entry with its encodings: binary at once, JSON when the first JSON stream asks. Immutable and safe for
// concurrent use.
type Entry struct {
	message.Entry
	// Change is the decoded content of a member change, nil for other types.
	Change *parleyv1.MemberChange
	// RecalledSeq is the seq that a recall erases, 0 for other types.
	RecalledSeq int64

	piece  []byte // a SubscribeResponse with this one event
	offset int    // where the encoded Message begins in piece

	jsonOnce sync.Once
	json     []byte
}

// Encode encodes an entry. The body must be valid (ValidBody): it becomes part of the bytes as it is.
func Encode(e message.Entry) *Entry {
	out := &Entry{Entry: e}
	out.encode(make([]byte, roomFor(&e)))
	return out
}

// EncodeAll encodes entries of which all bodies are valid, in memory that they share: they are let go together.
func EncodeAll(entries []message.Entry) []*Entry {
	out, all := make([]*Entry, len(entries)), make([]Entry, len(entries))
	size := 0
	for i := range entries {
		size += roomFor(&entries[i])
	}
	room := make([]byte, size)
	for i := range entries {
		e := &all[i]
		e.Entry = entries[i]
		n := roomFor(&e.Entry)
		e.encode(room[:n:n])
		room = room[n:]
		out[i] = e
	}
	return out
}

// roomFor is how much room encoding an entry takes at most.
func roomFor(e *message.Entry) int {
	return headRoom + fixedFields + len(e.SenderID) + len(e.SenderDevice) + len(e.Body)
}

// encode encodes into room, of which nothing is lost where it is too small.
func (e *Entry) encode(room []byte) {
	e.piece = room
	body := len(e.Body)
	e.seal(appendMessage(room[:headRoom], &e.Entry)[headRoom:])
	if n := len(e.piece); body > 0 { // it ends the message: what came may go, one thing less to keep and to mark
		e.Body = e.piece[n-body : n : n]
	}
}

// headRoom is what stands before the message in a piece at most: two tags of one byte, two lengths of up to five.
const headRoom = 12

// fixedFields is how much a message takes at most beside its texts and its body.
const fixedFields = 38 + 11 + 38 + 3 + 3 + 12 + 2 + 24

// seal takes the message that was appended to the room's first headRoom bytes, and reads what the entry needs of its body.
func (e *Entry) seal(msg []byte) {
	inner := protowire.SizeTag(fieldMessage) + protowire.SizeBytes(len(msg))
	var room [headRoom]byte
	head := protowire.AppendTag(room[:0], fieldEvents, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(inner)) //nolint:gosec // a length
	head = protowire.AppendTag(head, fieldMessage, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(msg)))
	e.offset = len(head)
	if whole := e.piece[:cap(e.piece)]; len(msg) <= len(whole)-headRoom { // it is where newPiece made room
		e.piece = whole[headRoom-len(head) : headRoom+len(msg)]
		copy(e.piece, head)
	} else {
		e.piece = append(append(make([]byte, 0, len(head)+len(msg)), head...), msg...)
	}
	e.look()
}

// look reads what the entry needs of its body.
func (e *Entry) look() {
	switch e.Type { //nolint:exhaustive // the others need nothing of their bodies
	case message.TypeMemberChange:
		e.Change = Message(e.Entry).GetContent().GetMemberChange()
	case message.TypeRecall:
		e.RecalledSeq = Message(e.Entry).GetContent().GetRecall().GetSeq()
	}
}

// Erased returns the entry as it is after its recall, encoded.
func (e *Entry) Erased() *Entry { return Encode(e.Entry.Erased()) }

// Size is what the entry counts for in a stream's queue, in bytes.
func (e *Entry) Size() int { return len(e.piece) }

// Removes reports whether the entry ends a user's membership.
func (e *Entry) Removes(userID string) bool {
	switch e.Change.GetKind() { //nolint:exhaustive // the others remove nobody
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_REMOVED, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_LEFT:
		for _, id := range e.Change.GetUserIds() {
			if id == userID {
				return true
			}
		}
	}
	return false
}

// Adds returns the users whose membership the entry begins.
func (e *Entry) Adds() []string {
	switch e.Change.GetKind() { //nolint:exhaustive // the others add nobody
	case parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_CREATED, parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ADDED:
		return e.Change.GetUserIds()
	}
	return nil
}

func (e *Entry) message() []byte { return e.piece[e.offset:] }

// JSON returns the event as JSON, without superfluous white space; the last two bytes end the message and the event.
func (e *Entry) JSON() []byte {
	e.jsonOnce.Do(func() {
		raw, err := protojson.Marshal(&parleyv1.Event{Kind: &parleyv1.Event_Message{Message: Message(e.Entry)}})
		if err != nil { // a body with invalid UTF-8, which Message has left out
			raw = []byte(`{"message":{}}`)
		}
		var out bytes.Buffer
		if json.Compact(&out, raw) == nil {
			raw = out.Bytes()
		}
		e.json = raw
	})
	return e.json
}

// Message returns an entry as the API shows it. A body that does not decode is left out: its seq and type stay, so that
// one broken row stops nobody.
func Message(e message.Entry) *parleyv1.Message {
	m := &parleyv1.Message{}
	if e.Body != nil && proto.Unmarshal(e.Body, m) != nil {
		m.Reset()
	}
	m.SessionId, m.Seq, m.MessageId = e.SessionID.String(), e.Seq, e.MessageID.String()
	m.SenderId, m.SenderDeviceId = e.SenderID, e.SenderDevice
	m.Type, m.IsDeleted, m.CreatedAt = parleyv1.MessageType(e.Type), e.IsDeleted, timestamppb.New(e.CreatedAt)
	return m
}

// MessageFor returns an entry with a viewer's own state on it. What the viewer deleted for themself comes without body.
func MessageFor(e message.Entry, st *parleyv1.MessageState) *parleyv1.Message {
	m := Message(e)
	m.State = st
	if st.GetIsDeleted() {
		m.Content, m.ReplyToSeq, m.Mentions = nil, 0, nil
	}
	return m
}

// ValidBody reports whether a stored body can be joined to an encoded message: it decodes, and sets none of the fields
// that are written from the row's other columns, since the last one would count.
func ValidBody(body []byte) bool {
	if body == nil {
		return true
	}
	if isText(body) {
		return true
	}
	m := &parleyv1.Message{}
	if proto.Unmarshal(body, m) != nil {
		return false
	}
	m.Content, m.ReplyToSeq, m.Mentions = nil, 0, nil
	m.ProtoReflect().SetUnknown(nil)
	return proto.Size(m) == 0
}

// isText reports whether a body is a text and nothing else, as most are: a content, of that a text, of that its body.
func isText(body []byte) bool {
	for _, field := range [3]protowire.Number{fieldContent, 1, 1} {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 || num != field || typ != protowire.BytesType {
			return false
		}
		inner, m := protowire.ConsumeBytes(body[n:])
		if n+m != len(body) { // m is negative where it is broken
			return false
		}
		body = inner
	}
	return utf8.Valid(body)
}

// Field numbers of parley.v1.Message, in the order in which they are written; those of the body come last.
const (
	fieldSessionID    = 1
	fieldSeq          = 2
	fieldMessageID    = 3
	fieldSenderID     = 4
	fieldSenderDevice = 5
	fieldType         = 6
	fieldContent      = 7
	fieldIsDeleted    = 8
	fieldCreatedAt    = 9
)

func appendMessage(b []byte, e *message.Entry) []byte {
	b = appendID(b, fieldSessionID, e.SessionID)
	b = appendVarint(b, fieldSeq, uint64(e.Seq)) //nolint:gosec // positive
	b = appendID(b, fieldMessageID, e.MessageID)
	b = appendString(b, fieldSenderID, e.SenderID)
	b = appendString(b, fieldSenderDevice, e.SenderDevice)
	b = appendVarint(b, fieldType, uint64(e.Type)) //nolint:gosec // positive
	if e.IsDeleted {
		b = appendVarint(b, fieldIsDeleted, 1)
	}
	var ts [24]byte
	t := appendVarint(ts[:0], 1, uint64(e.CreatedAt.Unix())) //nolint:gosec // two's complement is the encoding
	t = appendVarint(t, 2, uint64(e.CreatedAt.Nanosecond())) //nolint:gosec // positive
	b = protowire.AppendTag(b, fieldCreatedAt, protowire.BytesType)
	b = protowire.AppendBytes(b, t)
	return append(b, e.Body...)
}

func appendID(b []byte, field protowire.Number, id uuid.UUID) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = append(b, 36)
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}
