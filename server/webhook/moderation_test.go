package webhook

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// members are senders who may send all that they try, and nothing of it was sent before.
type members struct{}

func (members) Standings(_ context.Context, _ string, d []message.Draft) ([]Standing, error) {
	out := make([]Standing, len(d))
	for i := range out {
		out[i].Part = session.Part{Known: true, Active: true, Kind: session.KindGroup, Role: session.RoleMember, SendRole: session.RoleMember}
	}
	return out, nil
}

// standings are as written, in the order of the drafts.
type standings []Standing

func (s standings) Standings(context.Context, string, []message.Draft) ([]Standing, error) {
	return s, nil
}

// Nobody is asked about what may not be sent, nor about what was sent.
func TestStrangersAreNotModerated(t *testing.T) {
	j := newJudge(t, Reject)
	member := session.Part{Known: true, Active: true, Kind: session.KindGroup, Role: session.RoleMember, SendRole: session.RoleMember}
	former, muted, low := member, member, member
	former.Active, muted.Muted, low.SendRole = false, true, session.RoleAdmin
	refused := standings{{}, {Part: former}, {Part: muted}, {Part: low}, {Part: session.Part{Known: true, Active: true, Reach: session.BlockedByYou}},
		{Part: session.Part{Known: true, Active: true, Reach: session.Unreachable}}}
	want := []error{session.Unavailable, session.Unavailable, session.Muted, session.RoleTooLow, session.BlockedPeer, session.PeerUnavailable}
	ask := func(s standings) []error {
		t.Helper()
		j.store = s
		v, err := j.Judge(t.Context(), "alice", func() (d []message.Draft) {
			for range s {
				d = append(d, textDraft(t))
			}
			return d
		}())
		require.NoError(t, err)
		var errs []error
		for _, x := range v {
			errs = append(errs, x.Err)
		}
		return errs
	}
	require.Equal(t, want, ask(refused))
	require.Equal(t, []error{nil, nil}, ask(standings{{Known: true}, {Known: true, Part: former}}), "repeated sends get their first answer")
	require.Zero(t, j.hits.Load())
	// Beside them one that may be sent is judged alone: the answer has one verdict.
	require.Equal(t, append(want, nil), ask(append(refused, Standing{Part: member})))
	require.EqualValues(t, 1, j.hits.Load())
}

type judge struct {
	*Moderator
	clock  *clockwork.FakeClock
	hits   atomic.Int32
	answer atomic.Pointer[string]
	hold   chan struct{} // not nil: answers wait for it
}

func newJudge(t *testing.T, on OnFailure) *judge {
	j := &judge{clock: clockwork.NewFakeClock()}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		j.hits.Add(1)
		if j.hold != nil {
			select {
			case <-j.hold:
			case <-r.Context().Done():
			}
		}
		_, _ = w.Write([]byte(*j.answer.Load()))
	}))
	t.Cleanup(srv.Close)
	w, sealer := hook(t, srv.URL)
	w.OnFailure, w.Timeout = on, 5*time.Minute
	j.Moderator = NewModerator(members{}, there{}, NewSender(loopback(t), sealer, j.clock, "test"), j.clock, NewMetrics(nil))
	j.Use(&w)
	j.say(`{"verdicts":[{"action":"MODERATION_ACTION_ALLOW"}]}`)
	return j
}

func (j *judge) say(s string) { j.answer.Store(&s) }

func textDraft(t *testing.T) message.Draft {
	body, err := proto.Marshal(&parleyv1.Message{ReplyToSeq: 3, Mentions: []string{"bob"},
		Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: "hi"}}}})
	require.NoError(t, err)
	return message.Draft{SessionID: uuid.New(), MessageID: uuid.New(), SenderID: "alice", Type: message.TypeText, Body: body}
}

func (j *judge) one(t *testing.T) error {
	v, err := j.Judge(t.Context(), "alice", []message.Draft{textDraft(t)})
	require.NoError(t, err)
	return v[0].Err
}

func TestAnswersThatAreNone(t *testing.T) {
	for _, bad := range []string{"", "[]", "{}", `{"verdicts":[]}`, `{"verdicts":[{}]}`, `{"verdicts":[{"action":"MODERATION_ACTION_ALLOW"},{"action":"MODERATION_ACTION_ALLOW"}]}`,
		`{"verdicts":[{"action":"NO_SUCH"}]}`, `{"verdicts":[{"action":"MODERATION_ACTION_REPLACE"}]}`,
		`{"verdicts":[{"action":"MODERATION_ACTION_REPLACE","content":{"recall":{"seq":"1"}}}]}`,
		`{"verdicts":[{"action":"MODERATION_ACTION_REPLACE","content":{"text":{"body":""}}}]}`,
		`{"verdicts":[{"action":"MODERATION_ACTION_REPLACE","content":{"text":{"body":"` + strings.Repeat("x", 16385) + `"}}}]}`,
		`{"verdicts":[{"action":"MODERATION_ACTION_REJECT","reason":"` + strings.Repeat("x", 257) + `"}]}`} {
		j := newJudge(t, Reject)
		j.say(bad)
		require.ErrorIs(t, j.one(t), unmoderated, bad)
		j = newJudge(t, Allow)
		j.say(bad)
		require.NoError(t, j.one(t), bad)
	}
}

func TestReplacedContentKeepsTheRest(t *testing.T) {
	j := newJudge(t, Reject)
	j.say(`{"verdicts":[{"action":"MODERATION_ACTION_REPLACE","content":{"attachment":{"url":"https://x.example/a","mediaType":"image/png"}}}],"extra":1}`)
	v, err := j.Judge(t.Context(), "alice", []message.Draft{textDraft(t)})
	require.NoError(t, err)
	require.Equal(t, message.TypeAttachment, v[0].Type)
	var m parleyv1.Message
	require.NoError(t, proto.Unmarshal(v[0].Body, &m))
	require.EqualValues(t, 3, m.GetReplyToSeq())
	require.Equal(t, []string{"bob"}, m.GetMentions())
	require.Equal(t, "https://x.example/a", m.GetContent().GetAttachment().GetUrl())
}

func TestModerationThatFailsIsLeftAlone(t *testing.T) {
	j := newJudge(t, Reject)
	j.say("")
	for range tripAfter {
		require.Error(t, j.one(t))
	}
	require.EqualValues(t, tripAfter, j.hits.Load())
	require.Error(t, j.one(t))
	require.EqualValues(t, tripAfter, j.hits.Load(), "nobody waits for it")
	j.clock.Advance(openFor)
	require.Error(t, j.one(t))
	require.EqualValues(t, tripAfter+1, j.hits.Load(), "one tries")
	j.say(`{"verdicts":[{"action":"MODERATION_ACTION_ALLOW"}]}`)
	require.Error(t, j.one(t))
	j.clock.Advance(openFor)
	require.NoError(t, j.one(t))
	require.NoError(t, j.one(t))
}

// At most MaxModerating requests are under way; who waits for one of them longer than the timeout has no answer.
func TestModerationIsBounded(t *testing.T) {
	j := newJudge(t, Reject)
	j.hold = make(chan struct{})
	var wg sync.WaitGroup
	for range MaxModerating {
		wg.Go(func() { _, _ = j.Judge(t.Context(), "alice", []message.Draft{textDraft(t)}) })
	}
	require.Eventually(t, func() bool { return len(j.slots) == MaxModerating }, time.Minute, time.Millisecond)
	calm := *j.hook.Load()
	w := calm
	w.Timeout = 50 * time.Millisecond
	j.Use(&w)
	err := j.one(t)
	r, ok := refusal.Of(err)
	require.True(t, ok)
	require.Equal(t, refusal.ModerationUnavailable, r)
	close(j.hold)
	wg.Wait()
	require.LessOrEqual(t, j.hits.Load(), int32(MaxModerating))
	j.Use(&calm) // there is room again, and time
	require.NoError(t, j.one(t))
	j.Use(nil)
	require.False(t, j.Active())
}

func TestACallerWhoLeftIsNoFailure(t *testing.T) {
	j := newJudge(t, Allow)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range tripAfter + 1 {
		_, err := j.Judge(ctx, "alice", []message.Draft{textDraft(t)})
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, j.one(t))
	require.EqualValues(t, 1, j.hits.Load())
}
