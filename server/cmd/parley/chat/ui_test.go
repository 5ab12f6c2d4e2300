package chat

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func text(seq int64, sender, body string) *parleyv1.Message {
	return &parleyv1.Message{Seq: seq, SenderId: sender,
		Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}}}
}

// What somebody else wrote must not control this terminal.
func TestCleanTakesControlAway(t *testing.T) {
	l := lineOf(text(1, "bob\x1b[2J", "a\x1b]0;title\x07b\u202e\u009bc\td\ne"), "alice")
	require.Equal(t, "bob\uFFFD[2J", l.Sender)
	require.Equal(t, "a\uFFFD]0;title\uFFFDb\uFFFD\uFFFDc d\ne", l.Text)
	require.False(t, l.Own)
	require.True(t, lineOf(text(1, "alice", "x"), "alice").Own)
}

func TestPlain(t *testing.T) {
	var out, notes bytes.Buffer
	ui := NewPlain(t.Context(), strings.NewReader("one\ntwo"), &out, &notes)
	require.Equal(t, "one", <-ui.Lines())
	require.Equal(t, "two", <-ui.Lines())
	_, more := <-ui.Lines()
	require.False(t, more)
	require.NoError(t, ui.Err())
	ui.Message(lineOf(text(3, "bob", "hi\nthere"), "alice"))
	ui.Message(lineOf(&parleyv1.Message{Seq: 4, SenderId: "bob", Content: &parleyv1.Content{
		Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: 3}}}}, "alice"))
	ui.Message(lineOf(&parleyv1.Message{Seq: 5, SenderId: "bob", IsDeleted: true}, "alice"))
	ui.Status(Status{Typing: []string{"bob"}})
	ui.Status(Status{Typing: []string{"bob"}, Offline: true})
	ui.Status(Status{})
	ui.Note("connected")
	require.Equal(t, "bob: hi\n    there\nbob: (recalled)\n", out.String())
	require.Equal(t, "* bob recalled #3\n* bob typing\n* connected\n", notes.String())
}

func TestPlainSaysWhyItStopsReading(t *testing.T) {
	var out bytes.Buffer
	ui := NewPlain(t.Context(), strings.NewReader(strings.Repeat("x", maxLine+1)), &out, &out)
	_, more := <-ui.Lines()
	require.False(t, more)
	require.ErrorContains(t, ui.Err(), "too long")
}

func TestColumns(t *testing.T) {
	n, ok := columnsOf("> grüße ✓")
	require.True(t, ok)
	require.Equal(t, 9, n)
	for _, s := range []string{"漢字", "e\u0301", "👍"} {
		_, ok := columnsOf(s)
		require.False(t, ok, s)
	}
}

func TestTyping(t *testing.T) {
	var ty typing
	at := time.Unix(100, 0)
	ty.started("bob", at)
	ty.started("al", at.Add(time.Second))
	require.Equal(t, []string{"al", "bob"}, ty.names(at.Add(2*time.Second)))
	ty.stopped("al", at.Add(2*time.Second))
	ty.started("al", at.Add(2*time.Second+typingLate/2))
	require.Equal(t, []string{"bob"}, ty.names(at.Add(3*time.Second)), "the message has overtaken its sign")
	ty.started("al", at.Add(4*time.Second))
	require.Equal(t, []string{"al"}, ty.names(at.Add(typingLasts)), "bob gave no sign for long")
}

func TestReceiptsAskOnlyAfterSomethingHappened(t *testing.T) {
	var r receipts
	now := time.Unix(1000, 0)
	require.False(t, r.due(now), "there is no own message")
	r.saw(text(1, "alice", "hi"), "alice", now)
	asked := 0
	for range 600 {
		if now = now.Add(time.Second); r.due(now) {
			require.GreaterOrEqual(t, now.Sub(r.asked), receiptsEvery)
			r.ask(now)
			asked++
		}
	}
	require.Equal(t, receiptsTries, asked)
	r.stir(now)
	require.False(t, r.due(now))
	require.True(t, r.due(now.Add(receiptsEvery)))

	r.saw(text(2, "alice", "more"), "alice", now)
	require.EqualValues(t, 2, r.lastOwn())
	r.recalled(2)
	require.EqualValues(t, 1, r.lastOwn())
	require.False(t, r.due(now.Add(time.Hour)), "who has read what is gone is of no interest")
}

func TestEveryKindHasAText(t *testing.T) {
	fields := (&parleyv1.Content{}).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	for i := range fields.Len() {
		content := &parleyv1.Content{}
		m := content.ProtoReflect()
		m.Set(fields.Get(i), m.NewField(fields.Get(i)))
		text, _ := textOf(&parleyv1.Message{Content: content})
		require.NotContains(t, text, "does not know", fields.Get(i).Name())
	}
	for n := range parleyv1.MemberChangeKind_name {
		require.NotEmpty(t, memberText(&parleyv1.MemberChange{Kind: parleyv1.MemberChangeKind(n)}))
	}
}

func TestProblems(t *testing.T) {
	err := connect.NewError(connect.CodeUnavailable, errors.New("down"))
	detail, derr := connect.NewErrorDetail(&parleyv1.ErrorDetail{Reason: parleyv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
		Metadata: map[string]string{"retry_after_ms": "1500"}})
	require.NoError(t, derr)
	err.AddDetail(detail)
	p := problemOf(err)
	require.True(t, p.again)
	require.Equal(t, 1500*time.Millisecond, p.after)

	require.True(t, problemOf(connect.NewError(connect.CodeUnavailable, errors.New("refused"))).again, "no server")
	require.True(t, problemOf(errSilent).again)
	require.False(t, problemOf(errors.New("no admin key")).again)

	for reason, again := range map[parleyv1.ErrorReason]bool{
		parleyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED:         true,
		parleyv1.ErrorReason_ERROR_REASON_OVERLOADED:            true,
		parleyv1.ErrorReason_ERROR_REASON_STREAM_DISPLACED:      false,
		parleyv1.ErrorReason_ERROR_REASON_DEVICE_REVOKED:        false,
		parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_UNAVAILABLE: false,
	} {
		err := connect.NewError(connect.CodeUnavailable, errors.New("x"))
		detail, derr := connect.NewErrorDetail(&parleyv1.ErrorDetail{Reason: reason})
		require.NoError(t, derr)
		err.AddDetail(detail)
		require.Equal(t, again, problemOf(err).again, reason)
	}
}
