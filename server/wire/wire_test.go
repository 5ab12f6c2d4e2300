package wire_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

func body(t require.TestingT, m *parleyv1.Message) []byte {
	b, err := proto.Marshal(m)
	require.NoError(t, err)
	return b
}

func genEntry(t *rapid.T) message.Entry {
	e := message.Entry{
		SessionID: uuid.New(), Seq: rapid.Int64Range(1, 1<<60).Draw(t, "seq"), MessageID: uuid.New(),
		SenderID:     rapid.StringMatching(`[a-zäß]{1,20}`).Draw(t, "sender"),
		SenderDevice: rapid.SampledFrom([]string{"", "d1"}).Draw(t, "device"),
		Type:         message.Type(rapid.Int16Range(1, 6).Draw(t, "type")),
		CreatedAt:    time.Unix(rapid.Int64Range(-1000, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
		IsDeleted:    rapid.Bool().Draw(t, "deleted"),
	}
	if !e.IsDeleted {
		e.Body = body(t, &parleyv1.Message{
			Content:    &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: rapid.String().Draw(t, "body")}}},
			ReplyToSeq: rapid.Int64Range(0, 9).Draw(t, "reply"),
			Mentions:   rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,5}`), 0, 3).Draw(t, "mentions"),
		})
	}
	return e
}

// What is joined from bytes must decode to what the plain messages say, in both codecs, with and without states.
func TestFrameSaysWhatTheMessagesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codec := rapid.SampledFrom([]wire.Codec{wire.Proto, wire.JSON}).Draw(t, "codec")
		f := wire.NewFrame(codec)
		want := &parleyv1.SubscribeResponse{}
		for range rapid.IntRange(0, 5).Draw(t, "events") {
			e := genEntry(t)
			enc := wire.Encode(e)
			var st *parleyv1.MessageState
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				f.Entry(enc)
			case 1:
				st = &parleyv1.MessageState{}
				f.EntryFor(enc, st)
			case 2:
				st = &parleyv1.MessageState{IsRead: true}
				f.EntryFor(enc, st)
			case 3:
				st = &parleyv1.MessageState{IsRead: true, IsDeleted: true}
				f.EntryFor(enc, st)
			case 4:
				ev := &parleyv1.Event{Kind: &parleyv1.Event_Skipped{Skipped: &parleyv1.Skipped{FromSeq: 1, ToSeq: 2}}}
				f.Event(ev)
				want.Events = append(want.Events, ev)
				continue
			}
			want.Events = append(want.Events, &parleyv1.Event{Kind: &parleyv1.Event_Message{Message: wire.MessageFor(e, st)}})
		}
		var got parleyv1.SubscribeResponse
		if codec == wire.Proto {
			require.NoError(t, proto.Unmarshal(f.Bytes(), &got))
		} else {
			require.NoError(t, protojson.Unmarshal(f.Bytes(), &got), "%s", f.Bytes())
		}
		require.True(t, proto.Equal(want, &got), "want %v\ngot  %v", want, &got)
	})
}

func TestBodyThatDoesNotDecodeIsAPlaceholder(t *testing.T) {
	e := message.Entry{SessionID: uuid.New(), Seq: 7, MessageID: uuid.New(), SenderID: "a", Type: message.TypeText, Body: []byte{0xff}}
	require.False(t, wire.ValidBody(e.Body))
	m := wire.Message(e)
	require.EqualValues(t, 7, m.GetSeq())
	require.Equal(t, parleyv1.MessageType_MESSAGE_TYPE_TEXT, m.GetType())
	require.Nil(t, m.GetContent())
	for _, forged := range []*parleyv1.Message{{Seq: 8}, {SessionId: uuid.NewString()}, {SenderId: "b"}, {IsDeleted: true}} {
		require.False(t, wire.ValidBody(body(t, forged)), "it would stand for the row's own columns")
	}
	require.True(t, wire.ValidBody(body(t, &parleyv1.Message{ReplyToSeq: 3, Content: &parleyv1.Content{
		Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: "x"}}}})))
}

func TestMemberChangeAndRecallAreRead(t *testing.T) {
	change := &parleyv1.Content{Kind: &parleyv1.Content_MemberChange{MemberChange: &parleyv1.MemberChange{
		Kind: parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_LEFT, UserIds: []string{"bob"}}}}
	e := wire.Encode(message.Entry{Type: message.TypeMemberChange, Body: body(t, &parleyv1.Message{Content: change})})
	require.True(t, e.Removes("bob"))
	require.False(t, e.Removes("alice"))
	require.Empty(t, e.Adds())
	change.GetMemberChange().Kind = parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ADDED
	e = wire.Encode(message.Entry{Type: message.TypeMemberChange, Body: body(t, &parleyv1.Message{Content: change})})
	require.False(t, e.Removes("bob"))
	require.Equal(t, []string{"bob"}, e.Adds())
	recall := &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: 3}}}
	e = wire.Encode(message.Entry{Type: message.TypeRecall, Body: body(t, &parleyv1.Message{Content: recall})})
	require.EqualValues(t, 3, e.RecalledSeq)
}

func FuzzValidBody(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0xff})
	f.Add([]byte{0x3a, 0x04, 0x0a, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		if b == nil || !wire.ValidBody(b) {
			return
		}
		frame := wire.NewFrame(wire.Proto)
		frame.Entry(wire.Encode(message.Entry{SessionID: uuid.Nil, Seq: 1, Type: message.TypeText, Body: b}))
		require.NoError(t, proto.Unmarshal(frame.Bytes(), &parleyv1.SubscribeResponse{}))
	})
}

func TestDecodeIsTheInverseOfEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry(t)
		got, err := wire.Decode(wire.Encode(e).Encoded())
		require.NoError(t, err)
		require.Equal(t, e.SessionID, got.SessionID)
		require.True(t, proto.Equal(wire.Message(e), wire.Message(got.Entry)))
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(wire.Encode(message.Entry{SessionID: uuid.UUID{1}, Seq: 1, MessageID: uuid.UUID{2}, SenderID: "a", CreatedAt: time.Unix(1, 0)}).Encoded())
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := wire.Decode(raw)
		if err != nil {
			return
		}
		frame := wire.NewFrame(wire.Proto)
		frame.Entry(e)
		require.NoError(t, proto.Unmarshal(frame.Bytes(), &parleyv1.SubscribeResponse{}))
	})
}

// An entry holds its body once, in what it was encoded to, and nothing of what it was made of.
func TestEntryHoldsItsBodyOnce(t *testing.T) {
	raw := body(t, &parleyv1.Message{Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: "hi"}}}})
	given := bytes.Clone(raw)
	e := wire.Encode(message.Entry{SessionID: uuid.UUID{1}, Seq: 1, MessageID: uuid.UUID{2}, SenderID: "a", Type: message.TypeText,
		Body: given, CreatedAt: time.Unix(1, 0)})
	clear(given)
	require.Equal(t, raw, e.Body)
	require.Equal(t, "hi", wire.Message(e.Entry).GetContent().GetText().GetBody())
	require.Equal(t, len(e.Body), cap(e.Body), "what is appended to it must not be written into the entry")
	require.Nil(t, e.Erased().Body)
}
