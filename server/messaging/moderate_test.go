package messaging

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// accepting commits whatever comes and remembers it.
type accepting struct {
	Committer
	got []message.Draft
}

func (a *accepting) Send(_ context.Context, drafts []message.Draft) ([]committer.Outcome, error) {
	out := make([]committer.Outcome, len(drafts))
	for i, d := range drafts {
		a.got = append(a.got, d)
		out[i].Receipt.Seq = int64(len(a.got))
	}
	return out, nil
}

// verdicts are given in order; nil means that nobody moderates.
type verdicts []Verdict

func (v verdicts) Active() bool { return v != nil }

func (v verdicts) Judge(context.Context, string, []message.Draft) ([]Verdict, error) { return v, nil }

func text(body string) *parleyv1.Content {
	return &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: body}}}
}

// Each draft gets its own answer in its place, whatever becomes of the others.
func TestModeratedAnswersEachInItsPlace(t *testing.T) {
	no := errors.New("no")
	drafts := func() (d []message.Draft) {
		for range 4 {
			d = append(d, message.Draft{SenderID: "alice", MessageID: uuid.New(), Type: message.TypeText, Body: []byte("written"), Digest: 7})
		}
		return d
	}
	log := &accepting{}
	given := drafts()
	out, err := Moderated{log, verdicts{{}, {Err: no}, {Type: message.TypeCustom, Body: []byte("replaced")}, {}}}.Send(t.Context(), given)
	require.NoError(t, err)
	require.Len(t, log.got, 3)
	require.Equal(t, []byte("replaced"), log.got[1].Body)
	require.Equal(t, message.TypeCustom, log.got[1].Type)
	require.EqualValues(t, 7, log.got[1].Digest, "a repeated send is known by what was written")
	require.Equal(t, []byte("written"), given[2].Body, "the caller's drafts stay as they are")
	require.ErrorIs(t, out[1].Err, no)
	for i, seq := range map[int]int64{0: 1, 2: 2, 3: 3} {
		require.NoError(t, out[i].Err)
		require.Equal(t, seq, out[i].Receipt.Seq)
	}

	log = &accepting{}
	out, err = Moderated{log, verdicts{{Err: no}, {Err: no}, {Err: no}, {Err: no}}}.Send(t.Context(), drafts())
	require.NoError(t, err)
	require.Len(t, out, 4)
	require.Empty(t, log.got)
	out, err = Moderated{log, verdicts(nil)}.Send(t.Context(), drafts())
	require.NoError(t, err)
	require.Len(t, out, 4)
	require.Len(t, log.got, 4)
}

// A peer's id that the store could not take is refused alone, before the commit that it would fail for everybody in it.
func TestPeersThatAreNoIDs(t *testing.T) {
	log := &accepting{}
	s := NewService(log, nil, nil, clockwork.NewFakeClock())
	messages := []Outgoing{{Peer: "bob", MessageID: uuid.New(), Content: text("x")}}
	for _, bad := range []string{"bo\x00b", "bob\n", " bob", "b\xffb"} {
		messages = append(messages, Outgoing{Peer: bad, MessageID: uuid.New(), Content: text("x")})
	}
	out, err := s.Send(t.Context(), session.Actor{UserID: "alice", DeviceID: "d"}, messages)
	require.NoError(t, err)
	require.Len(t, log.got, 1)
	require.NoError(t, out[0].Err)
	for _, o := range out[1:] {
		reason, ok := refusal.Of(o.Err)
		require.True(t, ok)
		require.Equal(t, refusal.InvalidField, reason)
	}
}
