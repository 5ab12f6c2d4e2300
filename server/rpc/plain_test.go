package rpc

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

func plainMessage(session, id, body string) *parleyv1.SendMessageRequest {
	return &parleyv1.SendMessageRequest{Target: &parleyv1.SendMessageRequest_SessionId{SessionId: session}, MessageId: id,
		Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}}}
}

// Whatever is plain keeps the rules; whatever breaks one is not plain, and refused with the rule's name as ever.
func TestPlainRequestsKeepTheRules(t *testing.T) {
	va, err := newValidation()
	require.NoError(t, err)
	id, upper := uuid.NewString(), strings.ToUpper(uuid.NewString())
	answer := plainMessage(id, id, "x")
	answer.ReplyToSeq = 7
	many := func(n int, m *parleyv1.SendMessageRequest) *parleyv1.SendMessagesRequest {
		out := &parleyv1.SendMessagesRequest{}
		for range n {
			out.Messages = append(out.Messages, m)
		}
		return out
	}
	for name, m := range map[string]proto.Message{
		"text": plainMessage(id, upper, "x"), "longest": plainMessage(id, id, strings.Repeat("x", maxPlainText)), "answer": answer,
		"one": many(1, answer), "most": many(maxPlainBatch, plainMessage(upper, id, "ü")), "nil uuid": plainMessage(uuid.Nil.String(), id, "x"),
	} {
		require.True(t, plain(m), name)
		require.NoError(t, va.v.Validate(m), name)
	}

	negative, to := plainMessage(id, id, "x"), plainMessage(id, id, "x")
	negative.ReplyToSeq = -1
	to.Target = nil
	mentions := plainMessage(id, id, "x")
	mentions.Mentions = []string{""}
	noContent := plainMessage(id, id, "x")
	noContent.Content = nil
	noText := plainMessage(id, id, "x")
	noText.Content.Kind = &parleyv1.Content_Text{}
	noKind := plainMessage(id, id, "x")
	noKind.Content.Kind = nil
	for name, m := range map[string]*parleyv1.SendMessageRequest{
		"empty": plainMessage(id, id, ""), "too long": plainMessage(id, id, strings.Repeat("x", maxPlainText+1)), "negative": negative,
		"no target": to, "empty mention": mentions, "no content": noContent, "no text": noText, "no kind": noKind,
		"no id": plainMessage(id, "", "x"), "short id": plainMessage(id, id[1:], "x"), "urn": plainMessage("urn:uuid:"+id, id, "x"),
		"braces": plainMessage("{"+id[2:]+"}", id, "x"), "no hyphens": plainMessage(strings.ReplaceAll(id, "-", "a"), id, "x"),
		"no hex": plainMessage(id, "g"+id[1:], "x"), "moved hyphen": plainMessage(id, id[:7]+"-"+id[7:8]+id[9:], "x"),
	} {
		for _, request := range []proto.Message{m, many(1, m)} {
			require.False(t, plain(request), name)
			require.Error(t, va.check(request), name)
		}
	}
	for name, m := range map[string]proto.Message{"none": many(0, nil), "too many": many(maxPlainBatch+1, answer),
		"nil": many(2, nil)} {
		require.False(t, plain(m), name)
		require.Error(t, va.check(m), name)
	}
}
