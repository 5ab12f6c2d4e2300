package storage_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/reading"
	"github.com/parley-im/parley/server/relation"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

// What is read with each change of a relation, for a user's sessions and before joining touches rows in the number of what is
// asked for only, on plans that were made while tables were small.
func TestReadsLookUpByKeyWhateverTheStatisticsSay(t *testing.T) {
	const members, sessions, items = 200, 20, 5
	users := make([]string, members)
	for i := range users {
		users[i] = fmt.Sprintf("user%03d", i)
	}
	tables := []string{"session", "user_to_session", "app_user", "user_to_device", "user_to_user", "msg", "msg_state", "device_cursor"}
	for _, taken := range []string{"never", "of empty tables", "of a handful of rows", "of grown tables"} {
		t.Run("statistics "+taken, func(t *testing.T) {
			pool, err := storage.OpenPool(t.Context(), testenv.PostgresURL(t), 1) // one connection, whose plans are kept
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			db := storage.New(pool)
			analyse := func(when string) {
				if when == taken {
					exec(t, pool, `VACUUM (ANALYZE) session, user_to_session, msg_state, msg, app_user, user_to_device, user_to_user,
						device_cursor`)
				}
			}
			again := func(kind feed.RelationKind, others []string) func() error {
				return func() error {
					keys := make([]feed.Relation, len(others))
					for i := range keys {
						keys[i] = feed.Relation{Kind: kind, UserID: users[i], OtherID: others[i]}
					}
					_, err := storage.Roster{DB: db}.Again(t.Context(), kind, keys)
					return err
				}
			}
			reads := func(group uuid.UUID, ids []uuid.UUID, users, devices []string) map[string]func() error {
				return map[string]func() error{
					"devices refused": func() error {
						refused, err := storage.Devices{DB: db}.ListRefused(t.Context(), users, devices)
						require.Empty(t, refused)
						return err
					},
					"states": func() error {
						views, err := storage.States{DB: db}.Views(t.Context(), users[0], ids)
						require.Len(t, views, len(ids))
						return err
					},
					"candidates": func() error {
						_, err := storage.Sessions{DB: db}.WithLog(t.Context(), group, func(ctx context.Context, l session.Log) error {
							all, err := l.Candidates(ctx, users[0], users)
							require.Len(t, all, len(users))
							require.True(t, all[0].Available)
							return err
						})
						return err
					},
					"list of members": func() error {
						all, err := storage.Sessions{DB: db}.Members(t.Context(), users[0], group, "", items)
						require.NotEmpty(t, all)
						return err
					},
					"list of sessions": func() error {
						_, err := storage.Sessions{DB: db}.Views(t.Context(), users[0], uuid.Nil, false, items)
						return err
					},
					"positions": func() error {
						all, err := storage.Positions{DB: db}.Positions(t.Context(), users[0], "d", ids)
						require.Len(t, all, len(ids))
						return err
					},
					"unread": func() error {
						_, err := storage.States{DB: db}.Unread(t.Context(), users[0])
						return err
					},
					"relations": func() error {
						links := make([]relation.Link, len(users))
						for i := range users {
							links[i] = relation.Link{UserID: users[0], PeerID: users[i]}
						}
						_, err := storage.Relations{DB: db}.Views(t.Context(), links)
						return err
					},
					"audience of a reader": func() error {
						all, err := storage.ReadAudience{DB: db}.ReadAudience(t.Context(),
							[]reading.Position{{UserID: users[0], SessionID: group}}, members)
						require.NotEmpty(t, all[0])
						return err
					},
					"roster, relations":   again(feed.UserToUser, users),
					"roster, devices":     again(feed.UserToDevice, devices),
					"roster, memberships": again(feed.UserToSession, []string{group.String(), group.String()}),
					"presence": func() error {
						_, err := storage.PresenceAudience{DB: db}.Visible(t.Context(), users[0], users)
						return err
					},
				}
			}

			analyse("of empty tables")
			addUsers(t, pool, users[:2]...)
			few := addGroup(t, pool, users[:2]...)
			exec(t, pool, `UPDATE session SET last_seq = 1`)
			analyse("of a handful of rows")
			for range 8 { // so often that all plans are the generic ones, which are kept
				for name, read := range reads(few, []uuid.UUID{few}, users[:2], []string{"d", "d"}) {
					require.NoError(t, read(), name)
				}
			}
			addUsers(t, pool, users[2:]...)
			ids := make([]uuid.UUID, sessions)
			for i := range ids {
				ids[i] = uuid.New()
			}
			exec(t, pool, `INSERT INTO session (session_id, kind, owner_id, member_count, last_seq, created_at)
				SELECT unnest($1::uuid[]), 2, 'user000', $2, 1, $3`, ids, members, time.Unix(1, 0))
			exec(t, pool, `INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
				SELECT u, s, 1, 1, 1 FROM unnest($1::text[]) u, unnest($2::uuid[]) s`, users, ids)
			exec(t, pool, `INSERT INTO user_to_user SELECT u, p, 1, $2 FROM unnest($1::text[]) u, unnest($1::text[]) p WHERE u < p`,
				users, time.Unix(1, 0))
			exec(t, pool, `INSERT INTO device_cursor SELECT u, 'd', s, 1 FROM unnest($1::text[]) u, unnest($2::uuid[]) s`, users, ids)
			analyse("of grown tables")

			devices := make([]string, items)
			for i := range devices {
				devices[i] = "d"
			}
			for name, read := range reads(ids[3], ids[:items], users[100:100+items], devices) {
				for table, rows := range rowsRead(t, pool, read, tables...) {
					most := int64(6 * items)
					if name == "presence" && table == "user_to_session" {
						most = 2 * items * sessions // each pair of users is looked for in the sessions of one
					} else if name == "unread" {
						most = 2 * sessions // all of the user's
					} else if name == "audience of a reader" {
						most = 2 * members // all of the group's
					}
					require.LessOrEqual(t, rows, most, "%s of %s", table, name)
				}
			}
		})
	}
}
