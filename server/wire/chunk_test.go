package wire_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// stretch is a stretch of one session's log, as rows.
func stretch(t *rapid.T, first int64, n int) []message.Entry {
	id := uuid.New()
	rows := make([]message.Entry, n)
	for i := range rows {
		rows[i] = genEntry(t)
		rows[i].SessionID, rows[i].Seq = id, first+int64(i)
		if rows[i].Type == message.TypeRecall || rows[i].Type == message.TypeMemberChange {
			rows[i].Type = message.TypeText
		}
	}
	return rows
}

// All entries encoded together are each as encoded alone, and a chunk gives back of them what is asked for.
func TestChunkGivesBackWhatWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "n")
		first := rapid.Int64Range(1, 1<<50).Draw(t, "first")
		rows := stretch(t, first, n)
		all := wire.EncodeAll(rows)
		for i, e := range all {
			require.Equal(t, wire.Encode(rows[i]).Encoded(), e.Encoded())
			require.Equal(t, rows[i].Body, e.Body)
		}
		raw := wire.Chunk(all)
		var whole parleyv1.SubscribeResponse
		require.NoError(t, proto.Unmarshal(raw[4:], &whole))
		require.Len(t, whole.GetEvents(), n)

		after := first + int64(rapid.IntRange(-2, n).Draw(t, "after"))
		to := first + int64(rapid.IntRange(-2, n+1).Draw(t, "to"))
		got, err := wire.OpenChunk(nil, raw, rows[0].SessionID, after, to)
		require.NoError(t, err)
		var want []message.Entry
		for _, e := range rows {
			if e.Seq > after && e.Seq <= to {
				want = append(want, e)
			}
		}
		require.Len(t, got, len(want))
		frame := wire.NewFrame(wire.Proto)
		for i, e := range got {
			require.Equal(t, want[i].SenderID, e.SenderID)
			require.Equal(t, want[i].SenderDevice, e.SenderDevice)
			require.True(t, proto.Equal(wire.Message(want[i]), wire.Message(e.Entry)))
			frame.EntryFor(e, &parleyv1.MessageState{IsRead: true})
		}
		require.NoError(t, proto.Unmarshal(frame.Bytes(), &whole))
		for i, ev := range whole.GetEvents() {
			require.True(t, proto.Equal(wire.MessageFor(want[i], &parleyv1.MessageState{IsRead: true}), ev.GetMessage()))
		}
	})
}

// Whatever is changed in a chunk, and whatever else is taken for one, is told from it.
func TestChunkOfOthersIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := stretch(t, 5, 4)
		raw := wire.Chunk(wire.EncodeAll(rows))
		refused := func(raw []byte, id uuid.UUID) {
			_, err := wire.OpenChunk(nil, raw, id, 0, 100)
			require.Error(t, err)
		}
		refused(raw, uuid.New())
		refused(nil, rows[0].SessionID)
		refused(raw[:4], rows[0].SessionID)
		refused(raw[:rapid.IntRange(0, len(raw)-1).Draw(t, "cut")], rows[0].SessionID)
		flip := append([]byte(nil), raw...)
		flip[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		refused(flip, rows[0].SessionID)
		rows[2].Seq++ // a hole
		refused(wire.Chunk(wire.EncodeAll(rows)), rows[0].SessionID)
	})
}

// What an entry tells of its body is read from a chunk too.
func TestChunkTellsMemberChangesAndRecalls(t *testing.T) {
	id := uuid.New()
	rows := []message.Entry{
		{SessionID: id, Seq: 1, Type: message.TypeMemberChange, Body: body(t, &parleyv1.Message{Content: &parleyv1.Content{
			Kind: &parleyv1.Content_MemberChange{MemberChange: &parleyv1.MemberChange{
				Kind: parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_LEFT, UserIds: []string{"bob"}}}}})},
		{SessionID: id, Seq: 2, Type: message.TypeRecall, CreatedAt: time.Unix(7, 8).UTC(), Body: body(t, &parleyv1.Message{
			Content: &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: 1}}}})},
	}
	got, err := wire.OpenChunk(nil, wire.Chunk(wire.EncodeAll(rows)), id, 0, 2)
	require.NoError(t, err)
	require.True(t, got[0].Removes("bob"))
	require.EqualValues(t, 1, got[1].RecalledSeq)
	require.Equal(t, rows[1].CreatedAt, got[1].CreatedAt)
}

func FuzzOpenChunk(f *testing.F) {
	id := uuid.UUID{1}
	f.Add([]byte{})
	f.Add(wire.Chunk(wire.EncodeAll([]message.Entry{{SessionID: id, Seq: 1, SenderID: "a"}, {SessionID: id, Seq: 2, SenderID: "b"}})))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := wire.OpenChunk(nil, raw, id, 0, 1<<60)
		if err != nil {
			return
		}
		frame := wire.NewFrame(wire.Proto)
		for _, e := range got {
			frame.EntryFor(e, &parleyv1.MessageState{})
		}
		require.NoError(t, proto.Unmarshal(frame.Bytes(), &parleyv1.SubscribeResponse{}))
	})
}

// The usual body is told without decoding it whole; the answer is the one that decoding gives.
func TestValidBodyOfTexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := &parleyv1.Message{Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{
			Body: rapid.String().Draw(t, "text")}}}}
		raw := body(t, text)
		require.True(t, wire.ValidBody(raw))
		at := rapid.IntRange(0, len(raw)-1).Draw(t, "at")
		raw[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		m := &parleyv1.Message{}
		if proto.Unmarshal(raw, m) != nil {
			require.False(t, wire.ValidBody(raw), "%x", raw)
		}
	})
}
