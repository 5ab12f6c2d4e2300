package rpc

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
)

// stateMemory is state.Store, state.Ledger and state.Notifier for alice in one session of ten texts by bob. Marks change
// what they say; nothing else does.
type stateMemory struct {
	id       uuid.UUID
	standing state.Standing
	read     []int64
	deleted  []int64
	readers  []string
	told     []string
}

func newStateMemory() *stateMemory {
	m := &stateMemory{id: uuid.MustParse("7d444840-9dc0-11d1-b245-5ffdce74fad2"), standing: state.Standing{
		Visible: session.Visibility{{From: 2, To: session.Open}}, Head: 10, Active: true, ReadSeq: 4,
	}}
	for i := range 250 {
		m.readers = append(m.readers, fmt.Sprintf("u%03d", i))
	}
	return m
}

func (m *stateMemory) knows(userID string, id uuid.UUID) bool { return userID == "alice" && id == m.id }

func (m *stateMemory) Change(ctx context.Context, _ []state.Key, _ bool, fn func(context.Context, state.Ledger) error) error {
	return fn(ctx, stateMemoryLedger{m})
}

func (m *stateMemory) Standing(_ context.Context, userID string, id uuid.UUID) (state.Standing, bool, error) {
	return m.standing, m.knows(userID, id), nil
}

func (m *stateMemory) Views(ctx context.Context, userID string, ids []uuid.UUID) ([]state.View, error) {
	if !slices.ContainsFunc(ids, func(id uuid.UUID) bool { return m.knows(userID, id) }) {
		return nil, nil
	}
	return m.Unread(ctx, userID)
}

func (m *stateMemory) Unread(context.Context, string) ([]state.View, error) {
	return []state.View{{SessionID: m.id, Active: true, MarkedUnread: m.standing.MarkedUnread, Unread: m.unread()}}, nil
}

func (*stateMemory) Kept(context.Context, string, []message.Range) ([]state.Kept, error) {
	return nil, nil
}

func (m *stateMemory) Entries(_ context.Context, _ string, _ uuid.UUID, in []session.Interval) (state.Entries, bool, error) {
	out := state.Entries{ReadSeq: m.standing.ReadSeq, DeletedToSeq: m.standing.DeletedToSeq}
	for _, i := range in {
		for seq := i.From; seq <= i.To; seq++ {
			out.List = append(out.List, state.Entry{Seq: seq, MessageID: m.id, Countable: true,
				Read: slices.Contains(m.read, seq), Deleted: slices.Contains(m.deleted, seq)})
		}
	}
	return out, len(out.List) > 0, nil
}

func (m *stateMemory) Readers(_ context.Context, _ uuid.UUID, _ int64, after string, maxUsers int) (int64, []string, error) {
	from, found := slices.BinarySearch(m.readers, after)
	if found {
		from++
	}
	return int64(len(m.readers)), m.readers[from:min(len(m.readers), from+maxUsers)], nil
}

func (m *stateMemory) unread() int64 {
	return m.standing.Head - m.standing.ReadSeq - int64(len(m.read)) - int64(len(m.deleted))
}

func (m *stateMemory) NotifyUser(userID, exceptDevice string, _ *parleyv1.Event) {
	m.told = append(m.told, userID+"/"+exceptDevice)
}

func (*stateMemory) Handled(int64) {}

func (*stateMemory) Read(string, uuid.UUID, int64) {}

type stateMemoryLedger struct{ *stateMemory }

func (l stateMemoryLedger) Standing(k state.Key) (state.Standing, state.Hold) {
	if !l.knows(k.UserID, k.SessionID) {
		return state.Standing{}, state.Missing
	}
	return l.standing, state.Held
}

func (l stateMemoryLedger) Except(_ context.Context, wants []state.Want) ([]state.Found, error) {
	found := make([]state.Found, len(wants))
	for i, w := range wants {
		found[i] = state.Found{Changed: w.Seqs, FirstUnread: l.standing.ReadSeq + 1}
		if w.Deleted {
			l.deleted = append(l.deleted, w.Seqs...)
		} else {
			l.read = append(l.read, w.Seqs...)
		}
	}
	return found, nil
}

func (l stateMemoryLedger) Save(_ context.Context, moves []state.Move, asked []state.Key) (map[state.Key]int64, int64, error) {
	for _, m := range moves {
		l.standing = m.After
	}
	return map[state.Key]int64{asked[0]: l.unread()}, 1, nil
}

func newStates(t *testing.T) (*stateMemory, string) {
	t.Helper()
	m := newStateMemory()
	cfg := (&fakes{}).config(t)
	cfg.Verifier = slashVerifier{}
	cfg.Services.State = &StateServer{States: state.NewService(m, m)}
	return m, serve(t, cfg)
}

func TestStateService(t *testing.T) {
	protocols(t, func(t *testing.T, client connect.HTTPClient, opts ...connect.ClientOption) {
		m, url := newStates(t)
		alice := parleyv1connect.NewStateServiceClient(client, url, append(opts, as("alice/phone"))...)
		ctx, id := t.Context(), m.id.String()

		read, err := alice.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: 5})
		require.NoError(t, err)
		require.EqualValues(t, 5, read.GetReadSeq())
		require.EqualValues(t, 5, read.GetUnread())
		require.Equal(t, []string{"alice/phone"}, m.told)
		read, err = alice.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: id, Seqs: []int64{8, 7}})
		require.NoError(t, err)
		require.EqualValues(t, 5, read.GetReadSeq())
		require.EqualValues(t, 3, read.GetUnread())

		deleted, err := alice.DeleteForMe(ctx, &parleyv1.DeleteForMeRequest{SessionId: id, UpToSeq: 2})
		require.NoError(t, err)
		require.EqualValues(t, 2, deleted.GetDeletedToSeq())
		deleted, err = alice.DeleteForMe(ctx, &parleyv1.DeleteForMeRequest{SessionId: id, Seqs: []int64{9}})
		require.NoError(t, err)
		require.EqualValues(t, 2, deleted.GetUnread())

		list, err := alice.ListStates(ctx, &parleyv1.ListStatesRequest{SessionId: id, AfterSeq: 5, Limit: 4})
		require.NoError(t, err)
		require.EqualValues(t, 5, list.GetReadSeq())
		require.EqualValues(t, 2, list.GetDeletedToSeq())
		var said []string
		for _, s := range list.GetStates() {
			require.Equal(t, id, s.GetMessageId())
			said = append(said, fmt.Sprint(s.GetSeq(), s.GetIsRead(), s.GetIsDeleted()))
		}
		require.Equal(t, []string{"6 false false", "7 true false", "8 true false", "9 true true"}, said)

		_, err = alice.MarkUnread(ctx, &parleyv1.MarkUnreadRequest{SessionId: id})
		require.NoError(t, err)
		for _, ids := range [][]string{nil, {id}} {
			unread, err := alice.GetUnread(ctx, &parleyv1.GetUnreadRequest{SessionIds: ids})
			require.NoError(t, err)
			require.EqualValues(t, 2, unread.GetTotal())
			require.Len(t, unread.GetSessions(), 1)
			require.Equal(t, id, unread.GetSessions()[0].GetSessionId())
			require.EqualValues(t, 2, unread.GetSessions()[0].GetUnread())
			require.True(t, unread.GetSessions()[0].GetMarkedUnread())
		}
		unread, err := alice.GetUnread(ctx, &parleyv1.GetUnreadRequest{SessionIds: []string{uuid.NewString()}})
		require.NoError(t, err)
		require.Empty(t, unread.GetSessions())
	})
}

func TestStateServiceRefuses(t *testing.T) {
	protocols(t, func(t *testing.T, client connect.HTTPClient, opts ...connect.ClientOption) {
		m, url := newStates(t)
		alice := parleyv1connect.NewStateServiceClient(client, url, append(opts, as("alice/phone"))...)
		eve := parleyv1connect.NewStateServiceClient(client, url, append(opts, as("eve/phone"))...)
		ctx, id := t.Context(), m.id.String()

		_, err := alice.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: id, UpToSeq: 11})
		detail := requireError(t, err, connect.CodeOutOfRange, parleyv1.ErrorReason_ERROR_REASON_CURSOR_BEYOND_HEAD)
		require.Equal(t, "10", detail.GetMetadata()["head"])
		_, err = alice.DeleteForMe(ctx, &parleyv1.DeleteForMeRequest{SessionId: id, Seqs: []int64{1, 5}})
		requireError(t, err, connect.CodeOutOfRange, parleyv1.ErrorReason_ERROR_REASON_CURSOR_INVISIBLE)
		_, err = eve.MarkUnread(ctx, &parleyv1.MarkUnreadRequest{SessionId: id})
		requireError(t, err, connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE)
		_, err = eve.ListStates(ctx, &parleyv1.ListStatesRequest{SessionId: id})
		requireError(t, err, connect.CodePermissionDenied, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE)
		_, err = alice.ListReaders(ctx, &parleyv1.ListReadersRequest{SessionId: id, Seq: 1})
		requireError(t, err, connect.CodeNotFound, parleyv1.ErrorReason_ERROR_REASON_MESSAGE_UNAVAILABLE)

		for _, bad := range []*parleyv1.MarkReadRequest{
			{SessionId: id}, {SessionId: id, UpToSeq: 3, Seqs: []int64{3}}, {SessionId: id, Seqs: []int64{0}},
			{SessionId: id, Seqs: make([]int64, state.MaxSeqs+1)}, {SessionId: "x", UpToSeq: 3},
		} {
			_, err = alice.MarkRead(ctx, bad)
			requireError(t, err, connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_INVALID_FIELD)
		}
		require.Empty(t, m.told)
	})
}

func TestListReadersPages(t *testing.T) {
	m, url := newStates(t)
	alice := parleyv1connect.NewStateServiceClient(h2c(t), url, connect.WithGRPC(), as("alice/phone"))
	ctx, id := t.Context(), m.id.String()
	for limit, pages := range map[int32]int{0: 3, 1000: 1, 125: 2} {
		var got []string
		req := &parleyv1.ListReadersRequest{SessionId: id, Seq: 5, Limit: limit}
		for range pages {
			res, err := alice.ListReaders(ctx, req)
			require.NoError(t, err)
			require.EqualValues(t, len(m.readers), res.GetCount())
			for _, r := range res.GetReaders() {
				got = append(got, r.GetUserId())
			}
			req.PageToken = res.GetNextPageToken()
		}
		require.Empty(t, req.GetPageToken())
		require.Equal(t, m.readers, got)
	}

	// A token is good for its message alone.
	res, err := alice.ListReaders(ctx, &parleyv1.ListReadersRequest{SessionId: id, Seq: 5, Limit: 1})
	require.NoError(t, err)
	_, err = alice.ListReaders(ctx, &parleyv1.ListReadersRequest{SessionId: id, Seq: 6, PageToken: res.GetNextPageToken()})
	requireError(t, err, connect.CodeInvalidArgument, parleyv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID)
}
