package wire

import (
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Frame is an encoded SubscribeResponse under construction. Not safe for concurrent use; reuse it with Reset.
type Frame struct {
	codec Codec
	buf   []byte
}

// NewFrame returns an empty frame.
func NewFrame(c Codec) *Frame { return &Frame{codec: c} }

// Reset empties the frame and keeps its buffer, unless that has grown past keep bytes.
func (f *Frame) Reset(keep int) {
	if cap(f.buf) > keep {
		f.buf = nil
		return
	}
	f.buf = f.buf[:0]
}

// Len is the frame's size in bytes so far.
func (f *Frame) Len() int { return len(f.buf) }

// Bytes returns the encoded response, valid until the next change of the frame.
func (f *Frame) Bytes() []byte { return f.bytes() }

func (f *Frame) bytes() []byte {
	if f.codec == Proto {
		return f.buf
	}
	if len(f.buf) == 0 {
		return []byte("{}")
	}
	return append(f.buf, ']', '}')
}

const (
	fieldEvents  = 1 // SubscribeResponse.events
	fieldMessage = 1 // Event.message
	fieldState   = 12
)

// Entry appends a log entry as it was encoded for everybody.
func (f *Frame) Entry(e *Entry) {
	if f.codec == Proto {
		f.buf = append(f.buf, e.piece...)
		return
	}
	f.json(e.JSON(), nil)
}

// EntryFor appends a log entry with the viewer's own state on it.
func (f *Frame) EntryFor(e *Entry, st *parleyv1.MessageState) {
	switch {
	case st == nil:
		f.Entry(e)
	case st.GetIsDeleted():
		// What a user deleted for themself is not shown to them again.
		f.Event(&parleyv1.Event{Kind: &parleyv1.Event_Message{Message: MessageFor(e.Entry, st)}})
	case f.codec == Proto:
		msg := e.message()
		var state [4]byte
		s := state[:0]
		if st.GetIsRead() {
			s = protowire.AppendTag(s, 1, protowire.VarintType)
			s = protowire.AppendVarint(s, 1)
		}
		tail := protowire.SizeTag(fieldState) + protowire.SizeBytes(len(s))
		inner := protowire.SizeTag(fieldMessage) + protowire.SizeBytes(len(msg)+tail)
		b := protowire.AppendTag(f.buf, fieldEvents, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(inner)) //nolint:gosec // a length
		b = protowire.AppendTag(b, fieldMessage, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(len(msg)+tail)) //nolint:gosec // a length
		b = append(b, msg...)
		b = protowire.AppendTag(b, fieldState, protowire.BytesType)
		f.buf = protowire.AppendBytes(b, s)
	case st.GetIsRead():
		f.json(e.JSON(), []byte(`,"state":{"isRead":true}}}`))
	default:
		f.json(e.JSON(), []byte(`,"state":{}}}`))
	}
}

// Event appends an event that is not shared.
func (f *Frame) Event(ev *parleyv1.Event) {
	if f.codec == Proto {
		size := proto.Size(ev)
		b := protowire.AppendTag(f.buf, fieldEvents, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(size)) //nolint:gosec // a length
		b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, ev)
		if err == nil { // fails only for invalid UTF-8, which no path lets in
			f.buf = b
		}
		return
	}
	if raw, err := protojson.Marshal(ev); err == nil {
		f.json(raw, nil)
	}
}

// json appends one encoded event. tail, when set, replaces the two braces that end the event and its message.
func (f *Frame) json(event, tail []byte) {
	if len(f.buf) == 0 {
		f.buf = append(f.buf, `{"events":[`...)
	} else {
		f.buf = append(f.buf, ',')
	}
	if tail == nil {
		f.buf = append(f.buf, event...)
		return
	}
	f.buf = append(append(f.buf, event[:len(event)-2]...), tail...)
}
