package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// A row whose body cannot be decoded, or says that it is another message, comes as a placeholder in its place: it is
// counted, takes its seq, and keeps nothing else from being read, whichever tier it comes from.
func TestBodyThatCannotBeReadIsAPlaceholder(t *testing.T) {
	w := newRedisWorld(t, false)
	alice := w.s.Client("alice", "a")
	w.s.Token("bob", "b")
	var id string
	for range 10 {
		id = alice.Send(t.Context(), "bob", "fine").GetSessionId()
	}
	forged, err := proto.Marshal(&parleyv1.Message{Seq: 7, SenderId: "mallory"})
	require.NoError(t, err)
	garbage := map[int64][]byte{2: {0xff, 0xff, 0xff}, 5: {}, 6: []byte("no message at all"), 8: forged}

	w.s.Kill()
	conn, err := pgx.Connect(t.Context(), w.s.PostgresURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	for seq, body := range garbage {
		tag, err := conn.Exec(t.Context(), `UPDATE msg SET content = $3 WHERE session_id = $1 AND seq_id = $2`, id, seq, body)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}
	w.do("FLUSHALL")
	w.s.Restart()

	check := func(tier string, messages []*parleyv1.Message) {
		t.Helper()
		require.Len(t, messages, 10, tier)
		for i, m := range messages {
			require.EqualValues(t, i+1, m.GetSeq(), tier)
			require.Equal(t, "alice", m.GetSenderId(), tier)
			require.Equal(t, parleyv1.MessageType_MESSAGE_TYPE_TEXT, m.GetType(), tier)
			require.False(t, m.GetIsDeleted(), tier)
			if _, is := garbage[m.GetSeq()]; is {
				require.Nil(t, m.GetContent(), tier)
			} else {
				require.Equal(t, "fine", m.GetContent().GetText().GetBody(), tier)
			}
		}
	}
	list := func() []*parleyv1.Message {
		page, err := alice.Messages.ListMessages(t.Context(), &parleyv1.ListMessagesRequest{SessionId: id, Limit: 20})
		require.NoError(t, err)
		return page.GetMessages()
	}
	check("postgres", list())
	require.Zero(t, w.served())
	require.Eventually(t, func() bool { check("repaired", list()); return w.served() > 0 }, patience, 20*time.Millisecond)
	pulled, err := w.s.Client("bob", "poll").Sync.PullOffline(t.Context(), &parleyv1.PullOfflineRequest{})
	require.NoError(t, err)
	check("pulled", pulled.GetMessages())
	bob := w.s.Online("bob", "b")
	bob.WaitSeq(id, 10)
	check("streamed", bob.Shown(id))
	requireNoProblems(t, bob)
	for seq := range garbage {
		one, err := alice.Messages.GetMessage(t.Context(), &parleyv1.GetMessageRequest{SessionId: id, Seq: seq})
		require.NoError(t, err)
		require.Equal(t, seq, one.GetMessage().GetSeq())
		require.Nil(t, one.GetMessage().GetContent())
	}
	unread, err := bob.States.GetUnread(t.Context(), &parleyv1.GetUnreadRequest{})
	require.NoError(t, err)
	require.EqualValues(t, 10, unread.GetTotal())
}
