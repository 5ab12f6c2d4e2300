package chat

import (
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

type stream = *connect.ServerStream[parleyv1.SubscribeResponse]

func quiet(ctx context.Context, _ int, _ *parleyv1.SubscribeRequest, out stream) error {
	if err := out.Send(events(opened("e1"))); err != nil {
		return err
	}
	return held(ctx)
}

// A message keeps its id over all tries, and the next one waits for its turn. An expired token is replaced on the way.
func TestSendIsRepeatedUnderOneID(t *testing.T) {
	t.Parallel()
	f := &fake{stream: quiet}
	f.send = func(n int, req *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
		switch n {
		case 1:
			return nil, refusal(connect.CodeUnavailable, parleyv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
		case 2:
			return nil, connect.NewError(connect.CodeUnavailable, errors.New("bad gateway"))
		case 3:
			return nil, refusal(connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED)
		}
		return &parleyv1.SendMessageResponse{SessionId: said(0, "").GetSessionId(), MessageId: req.GetMessageId(), Seq: int64(n - 3)}, nil
	}
	tokens := make(chan struct{}, 10)
	ui, done := begin(t, f, func(context.Context) (string, error) { tokens <- struct{}{}; return "token", nil })
	ui.lines <- "one"
	ui.lines <- "two"
	ui.shows(t, "1 alice: one", "2 alice: two")
	require.Len(t, tokens, 2)
	f.mu.Lock()
	require.Len(t, f.sends, 5)
	for _, s := range f.sends[:4] {
		require.Equal(t, f.sends[0].GetMessageId(), s.GetMessageId())
		require.Equal(t, "one", s.GetContent().GetText().GetBody())
	}
	require.NotEqual(t, f.sends[0].GetMessageId(), f.sends[4].GetMessageId())
	f.mu.Unlock()
	ui.lines <- "/quit"
	require.NoError(t, next(t, done))
}

// Where no new token can be had, the chat ends and says why, and what was not sent.
func TestExpiredForGood(t *testing.T) {
	t.Parallel()
	expired := refusal(connect.CodeUnauthenticated, parleyv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED)
	var given bool
	f := &fake{stream: func(_ context.Context, _ int, _ *parleyv1.SubscribeRequest, _ stream) error { return expired }}
	f.send = func(int, *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) { return nil, expired }
	_, done := begin(t, f, func(context.Context) (string, error) {
		if given {
			return "", errors.New("the token is over")
		}
		given = true
		return "token", nil
	})
	require.ErrorContains(t, next(t, done), "the token is over")
}

// A stream that ends is opened again where the chat stands, with the epoch that its cursors belong to.
func TestReconnectResumes(t *testing.T) {
	t.Parallel()
	f := &fake{log: []*parleyv1.Message{said(1, "a")}}
	f.stream = func(ctx context.Context, n int, _ *parleyv1.SubscribeRequest, out stream) error {
		if n == 1 {
			elsewhere := said(7, "not for this screen")
			elsewhere.SessionId = "01890a5d-ac96-774b-bcce-b302099a8057"
			if err := out.Send(events(opened("e1"), entry(said(1, "a")), entry(said(2, "b")), entry(elsewhere))); err != nil {
				return err
			}
			return refusal(connect.CodeUnavailable, parleyv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
		}
		if err := out.Send(events(opened("e1"), entry(said(2, "b")), entry(said(3, "c")))); err != nil {
			return err
		}
		return held(ctx)
	}
	ui, _ := begin(t, f, nil)
	ui.shows(t, "1 bob: a", "2 bob: b", "3 bob: c")
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Len(t, f.streams[0].GetCursors(), 1)
	require.EqualValues(t, 1, f.streams[0].GetCursors()[0].GetSeq())
	again := map[string]int64{}
	for _, c := range f.streams[1].GetCursors() {
		again[c.GetSessionId()] = c.GetSeq()
	}
	require.Equal(t, map[string]int64{said(0, "").GetSessionId(): 2, "01890a5d-ac96-774b-bcce-b302099a8057": 7}, again)
	require.Equal(t, "e1", f.streams[1].GetEpoch())
}

// What was shown is acked and marked as read, coalesced.
func TestAcksAndReads(t *testing.T) {
	t.Parallel()
	f := &fake{log: []*parleyv1.Message{said(1, "a")}}
	f.stream = func(ctx context.Context, _ int, _ *parleyv1.SubscribeRequest, out stream) error {
		if err := out.Send(events(opened("e1"), entry(said(2, "b")), entry(said(3, "c")))); err != nil {
			return err
		}
		return held(ctx)
	}
	begin(t, f, nil)
	for acked := int64(0); acked < 3; {
		req := next(t, f.acked)
		require.Len(t, req.GetAcks(), 1)
		require.Greater(t, req.GetAcks()[0].GetSeq(), acked, "an ack moves on")
		acked = req.GetAcks()[0].GetSeq()
	}
	for read := int64(0); read < 3; {
		seq := next(t, f.read)
		require.Greater(t, seq, read)
		read = seq
	}
	require.Empty(t, f.acked)
}

// After a Resync nothing of before counts: the cursors are gone, and history shows what there is.
func TestResyncStartsAfresh(t *testing.T) {
	t.Parallel()
	f := &fake{log: []*parleyv1.Message{said(1, "a"), said(2, "b"), said(3, "c")}}
	f.stream = func(ctx context.Context, n int, _ *parleyv1.SubscribeRequest, out stream) error {
		if n == 1 {
			f.logged(said(1, "a"), said(2, "another b"))
			return out.Send(events(opened("e1"), &parleyv1.Event{Kind: &parleyv1.Event_Resync{Resync: &parleyv1.Resync{
				Reason: parleyv1.ResyncReason_RESYNC_REASON_EPOCH_CHANGED, Epoch: "e2"}}}))
		}
		if err := out.Send(events(opened("e2"), entry(said(1, "a")), entry(said(2, "another b")), entry(said(3, "another c")))); err != nil {
			return err
		}
		return held(ctx)
	}
	ui, _ := begin(t, f, nil)
	ui.shows(t, "1 bob: a", "2 bob: b", "3 bob: c", "1 bob: a", "2 bob: another b", "3 bob: another c")
}

// A hole is filled from history; what is left out with notice is none.
func TestHolesAndSkips(t *testing.T) {
	t.Parallel()
	f := &fake{log: []*parleyv1.Message{said(1, "a")}}
	f.stream = func(ctx context.Context, _ int, _ *parleyv1.SubscribeRequest, out stream) error {
		f.logged(said(1, "a"), said(2, "b"), said(3, "c"))
		if err := out.Send(events(opened("e1"), entry(said(3, "c")))); err != nil {
			return err
		}
		if err := out.Send(events(&parleyv1.Event{Kind: &parleyv1.Event_Skipped{Skipped: &parleyv1.Skipped{
			SessionId: said(0, "").GetSessionId(), FromSeq: 4, ToSeq: 8}}}, entry(said(9, "i")))); err != nil {
			return err
		}
		return held(ctx)
	}
	ui, _ := begin(t, f, nil)
	ui.shows(t, "1 bob: a", "2 bob: b", "3 bob: c", "9 bob: i")
}

// Leaving while something cannot be sent takes saying it twice, and is an error.
func TestQuitWithSomethingUnsent(t *testing.T) {
	t.Parallel()
	f := &fake{stream: quiet}
	f.send = func(int, *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
		return nil, refusal(connect.CodeUnavailable, parleyv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
	}
	ui, done := begin(t, f, nil)
	for note := ""; note != "connected"; {
		note = next(t, ui.notes)
	}
	ui.lines <- "one"
	for note := ""; note != "not sent yet, trying again: "+parleyv1.ErrorReason_ERROR_REASON_UNAVAILABLE.String(); {
		note = next(t, ui.notes)
	}
	ui.lines <- "/quit"
	require.Contains(t, next(t, ui.notes), "leaving when 1 more are sent")
	ui.lines <- "/quit"
	require.ErrorContains(t, next(t, done), "not sent: 1")
}
