package rpc

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// sseEvent is one event as a browser would see it.
type sseEvent struct{ id, kind, data, retry string }

func openSSE(t *testing.T, url string, header ...string) (*http.Response, func() sseEvent) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	return res, func() (e sseEvent) {
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "":
				return e
			case "id":
				e.id = value
			case "event":
				e.kind = value
			case "data":
				e.data = value
			case "retry":
				e.retry = value
			}
		}
		return e
	}
}

func entryFrame(id uuid.UUID, seqs ...int64) *wire.Frame {
	f := wire.NewFrame(wire.JSON)
	for _, seq := range seqs {
		f.Entry(wire.Encode(message.Entry{SessionID: id, Seq: seq, MessageID: uuid.New(), SenderID: "bob",
			Type: message.TypeText, CreatedAt: time.Unix(1, 0)}))
	}
	return f
}

func TestServerSentEvents(t *testing.T) {
	id := uuid.New()
	requests := make(chan *parleyv1.SubscribeRequest, 10)
	f := &fakes{serve: func(_ context.Context, p auth.Principal, req *parleyv1.SubscribeRequest, sink stream.Sink) error {
		require.Equal(t, "alice", p.UserID)
		require.Equal(t, wire.JSON, sink.Codec())
		requests <- req
		opened := wire.NewFrame(wire.JSON)
		opened.Event(&parleyv1.Event{Kind: &parleyv1.Event_Opened{Opened: &parleyv1.Opened{Epoch: "e1"}}})
		if err := sink.Send(opened); err != nil {
			return err
		}
		if err := sink.Send(entryFrame(id, 4, 5)); err != nil {
			return err
		}
		return refusal.New(refusal.ShuttingDown, "Going down.", "retry_after_ms", "1234")
	}}
	url := serve(t, f.config(t)) + "/v1/subscribe"
	token := []string{"Authorization", "Bearer " + aliceToken}

	res, next := openSSE(t, url+"?maxBacklog=7&fresh=true", token...) //nolint:bodyclose // openSSE closes it
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	req := <-requests
	require.EqualValues(t, 7, req.GetMaxBacklog())
	require.True(t, req.GetFresh())
	require.Contains(t, next().data, `"opened"`)
	second := next()
	require.Contains(t, second.data, id.String())
	require.NotEmpty(t, second.id)
	last := next()
	require.Equal(t, "error", last.kind)
	require.Equal(t, "1234", last.retry)
	require.Contains(t, last.data, "ERROR_REASON_SHUTTING_DOWN")
	require.Empty(t, last.id, "the position stays")

	_, next = openSSE(t, url, append(token, lastEventID, second.id)...) //nolint:bodyclose // as above
	req = <-requests
	require.True(t, proto.Equal(&parleyv1.SubscribeRequest{Epoch: "e1",
		Cursors: []*parleyv1.Cursor{{SessionId: id.String(), Seq: 5}}}, req), "%v", req)
	require.Contains(t, next().data, `"opened"`)

	openSSE(t, url+"?max_backlog=8", token...) //nolint:bodyclose // as above
	require.EqualValues(t, 8, (<-requests).GetMaxBacklog(), "as the proto writes it")
}

func TestServerSentEventsRefused(t *testing.T) {
	f := &fakes{serve: func(context.Context, auth.Principal, *parleyv1.SubscribeRequest, stream.Sink) error {
		return refusal.New(refusal.ShuttingDown, "Going down.")
	}}
	url := serve(t, f.config(t)) + "/v1/subscribe"
	token := []string{"Authorization", "Bearer " + aliceToken}
	for name, c := range map[string]struct {
		query  string
		header []string
		status int
		reason string
	}{
		"no token":        {"?access_token=" + aliceToken, nil, 401, "TOKEN_MISSING"},
		"bad token":       {"", []string{"Authorization", "Bearer x"}, 401, "TOKEN_INVALID"},
		"bad id":          {"", append(token, lastEventID, "x"), 400, "INVALID_FIELD"},
		"bad parameter":   {"?maxBacklog=many", token, 400, "INVALID_FIELD"},
		"other parameter": {"?maxbacklog=7", token, 400, "INVALID_FIELD"},
		"token in URL":    {"?access_token=" + aliceToken, token, 400, "INVALID_FIELD"},
		"twice":           {"?fresh=true&fresh=false", token, 400, "INVALID_FIELD"},
		"two names":       {"?maxBacklog=1&max_backlog=2", token, 400, "INVALID_FIELD"},
		"no query":        {"?fresh=%zz", token, 400, "INVALID_FIELD"},
		"broken rule":     {"?max_backlog=-1", token, 400, "INVALID_FIELD"},
		"ended at once":   {"", token, 503, "SHUTTING_DOWN"},
		"bad flag":        {"?fresh=perhaps", token, 400, "INVALID_FIELD"},
		"unreadable size": {"?max_backlog=99999999999", token, 400, "INVALID_FIELD"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := do(t, http.MethodGet, url+c.query, "", "", c.header...)
			require.Equal(t, c.status, status, answer)
			require.Contains(t, answer, "ERROR_REASON_"+c.reason)
			require.NotContains(t, answer, aliceToken)
		})
	}
}

func TestPositions(t *testing.T) {
	var p positions
	p.reset("e1")
	ids := make([]uuid.UUID, maxEventPositions+1)
	for i := range ids {
		ids[i] = uuid.New()
		p.move(entryFrame(ids[i], int64(i+1)).Bytes())
	}
	require.Len(t, p.list, maxEventPositions, "the oldest is let go")
	require.NotContains(t, p.list, position{ids[0], 1})

	skipped := wire.NewFrame(wire.JSON)
	skipped.Event(&parleyv1.Event{Kind: &parleyv1.Event_Skipped{Skipped: &parleyv1.Skipped{
		SessionId: ids[1].String(), FromSeq: 3, ToSeq: 90}}})
	p.move(skipped.Bytes())
	require.Equal(t, position{ids[1], 90}, p.list[maxEventPositions-1], "what moved is last")
	require.LessOrEqual(t, len(p.eventID()), maxEventIDBytes)

	var req parleyv1.SubscribeRequest
	require.NoError(t, parseEventID(p.eventID(), &req))
	require.Len(t, req.GetCursors(), maxEventPositions)

	resync := func(id, epoch string) {
		f := wire.NewFrame(wire.JSON)
		f.Event(&parleyv1.Event{Kind: &parleyv1.Event_Resync{Resync: &parleyv1.Resync{SessionId: id, Epoch: epoch}}})
		p.move(f.Bytes())
	}
	resync(ids[1].String(), "e1")
	require.NotContains(t, p.list, position{ids[1], 90})
	resync("", "e2")
	require.Empty(t, p.list)
	require.Equal(t, "e2", p.epoch)
}

func FuzzEventID(f *testing.F) {
	p := positions{epoch: "7000-1", list: []position{{uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057"), 12}}}
	f.Add(p.eventID())
	f.Add((&positions{}).eventID())
	f.Add("AQ")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, id string) {
		var req parleyv1.SubscribeRequest
		if err := parseEventID(id, &req); err != nil {
			require.ErrorIs(t, err, badEventID)
			require.Empty(t, req.GetCursors())
			return
		}
		var again positions
		again.start(&req)
		require.LessOrEqual(t, len(again.list), maxEventPositions)
	})
}
