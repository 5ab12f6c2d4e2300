package scan_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parley-im/parley/bench/scan"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// notes writes down what a scan says.
type notes []string

func (n *notes) Entry(session []byte, seq int64, body []byte) {
	*n = append(*n, fmt.Sprintf("entry %s %d %s", session, seq, body))
}
func (n *notes) Skipped(session []byte, from, to int64) {
	*n = append(*n, fmt.Sprintf("skipped %s %d %d", session, from, to))
}
func (n *notes) CaughtUp() { *n = append(*n, "caught up") }
func (n *notes) Resync()   { *n = append(*n, "resync") }

func text(session string, seq int64, body string) *parleyv1.Event {
	return &parleyv1.Event{Kind: &parleyv1.Event_Message{Message: &parleyv1.Message{SessionId: session, Seq: seq, MessageId: "m", SenderId: "u",
		SenderDeviceId: "d", Type: parleyv1.MessageType_MESSAGE_TYPE_TEXT, CreatedAt: timestamppb.Now(), Mentions: []string{"a", "b"},
		ReplyToSeq: 3, State: &parleyv1.MessageState{IsRead: true},
		Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}}}}}
}

// events are one of each kind that a scan tells, and some that it passes over.
func events() ([]*parleyv1.Event, []string) {
	long := fmt.Sprintf("%0300d", 7)
	return []*parleyv1.Event{
			{Kind: &parleyv1.Event_Opened{Opened: &parleyv1.Opened{Epoch: "1-1"}}},
			text("s1", 1, "hello"),
			text("s1", 1<<40, long),
			{Kind: &parleyv1.Event_Message{Message: &parleyv1.Message{SessionId: "s2", Seq: 9, Type: parleyv1.MessageType_MESSAGE_TYPE_RECALL,
				Content: &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: 4}}}}}},
			{Kind: &parleyv1.Event_Skipped{Skipped: &parleyv1.Skipped{SessionId: "s2", FromSeq: 10, ToSeq: 400}}},
			{Kind: &parleyv1.Event_Heartbeat{Heartbeat: &parleyv1.Heartbeat{}}},
			{Kind: &parleyv1.Event_CaughtUp{CaughtUp: &parleyv1.CaughtUp{UnreadTotal: 5}}},
			{Kind: &parleyv1.Event_Resync{Resync: &parleyv1.Resync{}}},
		}, []string{"entry s1 1 hello", fmt.Sprintf("entry s1 %d %s", int64(1)<<40, long), "entry s2 9 ", "skipped s2 10 400",
			"caught up", "resync"}
}

func envelope(t *testing.T, flags byte, raw []byte) []byte {
	t.Helper()
	return append(binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(raw))), raw...)
}

func body(t *testing.T, groups ...[]*parleyv1.Event) (out []byte) {
	t.Helper()
	for _, events := range groups {
		raw, err := proto.Marshal(&parleyv1.SubscribeResponse{Events: events})
		require.NoError(t, err)
		out = append(out, envelope(t, 0, raw)...)
	}
	return out
}

// chunks cuts a body into chunks of a size.
func chunks(b []byte, size int) (out []byte) {
	for len(b) > 0 {
		n := min(size, len(b))
		out = fmt.Appendf(out, "%X\r\n%s\r\n", n, b[:n])
		b = b[n:]
	}
	return out
}

// However the bytes are cut into chunks and reads, the scan says the same.
func TestScanInPieces(t *testing.T) {
	t.Parallel()
	all, want := events()
	raw := body(t, all[:3], nil, all[3:])
	raw = append(raw, envelope(t, 2, []byte(`{"error":{}}`))...)
	for _, chunk := range []int{1, 2, 7, 64, 1000} {
		for _, piece := range []int{1, 2, 3, 5, 17, 100, 100_000} {
			var got notes
			c := &scan.Chunked{Envelopes: scan.Envelopes{Sink: &got}}
			var err error
			for rest := chunks(raw, chunk); len(rest) > 0 && err == nil; {
				n := min(piece, len(rest))
				err = c.Feed(rest[:n])
				rest = rest[n:]
			}
			var end *scan.EndError
			require.ErrorAs(t, err, &end)
			require.JSONEq(t, `{"error":{}}`, end.JSON)
			require.Equal(t, want, []string(got), "chunks of %d in pieces of %d", chunk, piece)
			require.EqualValues(t, 3, c.Frames)
		}
	}
}

func TestScanRefusesWhatIsBroken(t *testing.T) {
	t.Parallel()
	whole := body(t, []*parleyv1.Event{text("s", 1, "x")})
	cut := append([]byte(nil), whole[:len(whole)-4]...)
	binary.BigEndian.PutUint32(cut[1:], uint32(len(cut)-5))
	for name, raw := range map[string][]byte{
		"cut":        cut,
		"compressed": envelope(t, 1, []byte("x")),
		"large":      {0, 0xff, 0xff, 0xff, 0xff},
		"other":      envelope(t, 0, []byte{0x12, 0}),
	} {
		s := &scan.Envelopes{Sink: &notes{}}
		require.Error(t, s.Feed(raw), name)
	}
	c := &scan.Chunked{Envelopes: scan.Envelopes{Sink: &notes{}}}
	require.Error(t, c.Feed([]byte("zz\r\n")))
	c = &scan.Chunked{Envelopes: scan.Envelopes{Sink: &notes{}}}
	require.ErrorIs(t, c.Feed([]byte("0\r\n\r\n")), scan.ErrBodyEnd)
}

func FuzzScan(f *testing.F) {
	all, _ := events()
	raw, err := proto.Marshal(&parleyv1.SubscribeResponse{Events: all})
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte{0x0a, 0x02, 0x0a, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var whole, pieces notes
		a, b := &scan.Envelopes{Sink: &whole}, &scan.Envelopes{Sink: &pieces}
		framed := envelope(t, 0, raw)
		errA := a.Feed(framed)
		var errB error
		for i := 0; i < len(framed) && errB == nil; i++ {
			errB = b.Feed(framed[i : i+1])
		}
		require.Equal(t, errA == nil, errB == nil, errors.Join(errA, errB))
		if errA == nil {
			require.Equal(t, whole, pieces)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	var events []*parleyv1.Event
	for i := range 64 {
		events = append(events, text("0190a5d2-7c55-7b3e-9d3c-0f4b1d2c3e4f", int64(i+1), fmt.Sprintf("%0100d", i)))
	}
	raw, err := proto.Marshal(&parleyv1.SubscribeResponse{Events: events})
	require.NoError(b, err)
	framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(raw))), raw...)
	s := &scan.Envelopes{Sink: discard{}}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Feed(framed); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(events)), "ns/entry")
}

type discard struct{}

func (discard) Entry([]byte, int64, []byte)  {}
func (discard) Skipped([]byte, int64, int64) {}
func (discard) CaughtUp()                    {}
func (discard) Resync()                      {}
