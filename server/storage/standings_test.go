package storage_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

// How drafts stand is what parley_append makes of them: before moderation is asked, senders get the refusals that they would
// get of the commit.
func TestStandingsAreWhatAppendSays(t *testing.T) {
	pool := testenv.Postgres(t)
	logs := storage.NewMessages(storage.New(pool))
	standings := storage.Standings{DB: storage.New(pool)}
	addUsers(t, pool, "alice", "bob", "carol", "dave", "erin", "gone")
	exec(t, pool, `INSERT INTO user_to_user (user_id, peer_id, kind, updated_at) VALUES ('alice', 'carol', 3, now()), ('dave', 'alice', 3, now())`)
	exec(t, pool, `UPDATE app_user SET deactivated_at = now() WHERE user_id = 'gone'`)
	group, foreign, left, muted, admins := addGroup(t, pool, "alice", "bob"), addGroup(t, pool, "bob"), addGroup(t, pool, "alice", "bob"),
		addGroup(t, pool, "alice", "bob"), addGroup(t, pool, "alice", "bob")
	exec(t, pool, `UPDATE user_to_session SET left_seq = 1 WHERE user_id = 'alice' AND session_id = $1`, left)
	exec(t, pool, `UPDATE user_to_session SET is_muted = true WHERE user_id = 'alice' AND session_id = $1`, muted)
	exec(t, pool, `UPDATE session SET send_role = 3 WHERE session_id = $1`, admins)
	exec(t, pool, `UPDATE user_to_session SET role = 1 WHERE user_id = 'alice' AND session_id = $1`, admins)
	to := func(peer string) message.Draft {
		id, _, _ := session.DirectID("alice", peer)
		d := draftOf(id, "alice", "x")
		d.Peer = peer
		return d
	}
	in := func(id uuid.UUID) message.Draft { return draftOf(id, "alice", "x") }
	unmade, _, _ := session.DirectID("alice", "erin")
	again := in(group)
	_, err := logs.Append(t.Context(), []message.Draft{again, to("bob")}, time.Now())
	require.NoError(t, err)

	drafts := []message.Draft{in(group), again, in(foreign), in(uuid.New()), in(left), in(muted), in(admins), in(unmade),
		to("bob"), in(to("bob").SessionID), to("carol"), to("dave"), to("gone"), to("nobody"), to("erin")}
	want := []error{nil, nil, session.Unavailable, session.Unavailable, session.Unavailable, session.Muted, session.RoleTooLow, session.Unavailable,
		nil, nil, session.BlockedPeer, session.PeerUnavailable, session.PeerUnavailable, session.PeerUnavailable, nil}
	stand, err := standings.Standings(t.Context(), "alice", drafts)
	require.NoError(t, err)
	require.Len(t, stand, len(drafts))
	for i, s := range stand {
		require.Equal(t, i == 1, s.Known, "%d", i)
		require.Equal(t, want[i], session.Authorize(session.Send, s.Part), "%d", i)
	}
	for i, d := range drafts { // one by one: the last makes the direct session that another looks for
		out, err := logs.Append(t.Context(), []message.Draft{d}, time.Now())
		require.NoError(t, err)
		require.Equal(t, want[i] == nil, out[0].Err == nil, "%d: %v", i, out[0].Err)
		if want[i] != nil {
			require.ErrorIs(t, out[0].Err, want[i], "%d", i)
		}
	}
}
