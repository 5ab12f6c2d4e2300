package storage_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

// sender is somebody who wants to send, in a session of their own.
type sender struct {
	part  session.Part
	id    uuid.UUID
	user  string
	draft message.Draft
}

// TestAppendKnowsTheRights: parley_append judges sends by itself, and must come to what the domain's table says, whatever
// the sender's part in the session is.
func TestAppendKnowsTheRights(t *testing.T) {
	pool := testenv.Postgres(t)
	s := storage.NewMessages(storage.New(pool))
	var parts []session.Part
	for _, known := range []bool{true, false} {
		for _, active := range []bool{true, false} {
			for _, muted := range []bool{true, false} {
				for _, reach := range []session.Reach{session.Reachable, session.BlockedByYou, session.Unreachable} {
					parts = append(parts, session.Part{Known: known, Active: active, Muted: muted, Kind: session.KindDirect,
						Role: session.RoleMember, SendRole: session.RoleMember, Reach: reach})
				}
				for _, role := range []session.Role{session.RoleMember, session.RoleAdmin, session.RoleOwner} {
					for _, needed := range []session.Role{session.RoleMember, session.RoleAdmin, session.RoleOwner} {
						parts = append(parts, session.Part{Known: known, Active: active, Muted: muted, Kind: session.KindGroup,
							Role: role, SendRole: needed})
					}
				}
			}
		}
	}
	var senders []sender
	var drafts []message.Draft
	for i, p := range parts {
		a := addSender(t, pool, i, p)
		senders, drafts = append(senders, a), append(drafts, a.draft)
	}
	out, err := s.Append(t.Context(), drafts, time.Now())
	require.NoError(t, err)
	passed := 0
	for i, a := range senders {
		want := session.Authorize(session.Send, a.part)
		if !a.part.Known {
			want = session.Unavailable
		}
		require.Equal(t, want, out[i].Err, "%+v", a.part)
		if want == nil {
			passed++
		}
		// Where a call of its own decides, it reads the same.
		m, found, ok, err := storage.Sessions{DB: storage.New(pool)}.Membership(t.Context(), a.user, a.id)
		require.NoError(t, err)
		require.Equal(t, a.part.Known, ok)
		if ok {
			require.Equal(t, a.part, m.PartIn(found))
		}
	}
	require.Positive(t, passed)
	require.Less(t, passed, len(parts)/2)
}

// addSender makes a session, with an entry, in which a user has this part.
func addSender(t *testing.T, pool *pgxpool.Pool, n int, p session.Part) sender {
	user, peer := fmt.Sprintf("u%d", n), fmt.Sprintf("v%d", n)
	addUsers(t, pool, user, peer)
	a := sender{part: p, id: uuid.New(), user: user}
	if p.Kind == session.KindDirect {
		var low, high string
		a.id, low, high = session.DirectID(user, peer)
		exec(t, pool, `INSERT INTO session (session_id, kind, owner_id, direct_low, direct_high, member_count, created_at, last_seq)
			VALUES ($1, 1, $2, $2, $3, 2, now(), 1)`, a.id, low, high)
	} else {
		exec(t, pool, `INSERT INTO session (session_id, kind, owner_id, send_role, member_count, created_at, last_seq)
			VALUES ($1, 2, $2, $3, 1, now(), 1)`, a.id, peer, p.SendRole)
	}
	if p.Known {
		var left *int64
		if !p.Active {
			left = new(int64)
			*left = 1
		}
		exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq, left_seq, is_muted)
			VALUES ($1, $2, $3, 1, 1, $4, $5)`, user, a.id, p.Role, left, p.Muted)
	}
	switch p.Reach {
	case session.BlockedByYou:
		exec(t, pool, `INSERT INTO user_to_user VALUES ($1, $2, 3, now())`, user, peer)
	case session.Unreachable:
		if n%2 == 0 {
			exec(t, pool, `INSERT INTO user_to_user VALUES ($1, $2, 3, now())`, peer, user)
		} else {
			exec(t, pool, `UPDATE app_user SET deactivated_at = now() WHERE user_id = $1`, peer)
		}
	case session.Reachable:
	}
	a.draft = draftOf(a.id, user, "x")
	return a
}

// A batch in which all is refused waits for no disk, since the wait would tell that there is a session; any other waits, and
// the connection does so again afterwards.
func TestOnlyRefusalsDoNotWaitForTheDisk(t *testing.T) {
	// A server of its own, which writes nothing down for others, nor by itself but once in ten seconds.
	own := testenv.OwnPostgres(t, map[string]string{"wal_writer_delay": "10s"})
	shared, err := pgxpool.New(t.Context(), own.URL())
	require.NoError(t, err)
	t.Cleanup(shared.Close)
	addUsers(t, shared, "alice", "eve")
	id := addGroup(t, shared, "alice")
	cfg := shared.Config()
	cfg.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s := storage.NewMessages(storage.New(pool))
	onDisk := func() (lsn string) {
		require.NoError(t, shared.QueryRow(context.Background(), `SELECT pg_current_wal_flush_lsn()::text`).Scan(&lsn))
		return lsn
	}
	first := draftOf(id, "alice", "first")
	for name, c := range map[string]struct {
		drafts []message.Draft
		waits  bool
	}{
		"all refused":  {[]message.Draft{draftOf(id, "eve", "x"), draftOf(id, "eve", "y")}, false},
		"all sent":     {[]message.Draft{first}, true},
		"one refused":  {[]message.Draft{draftOf(id, "eve", "x"), draftOf(id, "alice", "y")}, true},
		"one repeated": {[]message.Draft{draftOf(id, "eve", "x"), first}, true},
	} {
		t.Run(name, func(t *testing.T) {
			waited := true // each time
			for range 20 {
				for i := range c.drafts {
					if c.drafts[i].MessageID != first.MessageID {
						c.drafts[i].MessageID = uuid.New()
					}
				}
				before := onDisk()
				_, err := s.Append(t.Context(), c.drafts, time.Now())
				require.NoError(t, err)
				waited = waited && onDisk() != before
				var setting string
				require.NoError(t, pool.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&setting))
				require.Equal(t, "on", setting)
				if name == "all sent" {
					break // the next would be a repeat
				}
			}
			require.Equal(t, c.waits, waited)
		})
	}
}
