-- Users. Who needs a user to stay as they are locks their row, the rows of two users in byte order of their ids; a row's
-- lock is not in the way of foreign keys.

-- name: UserUpsert :one
-- Makes a user or replaces their profile, and brings a deactivated one back.
INSERT INTO app_user (user_id, display_name, avatar_url, created_at)
VALUES (@user_id, @display_name, @avatar_url, @now::timestamptz)
ON CONFLICT (user_id) DO UPDATE
    SET display_name = excluded.display_name, avatar_url = excluded.avatar_url, deactivated_at = NULL
RETURNING user_id, display_name, avatar_url, deactivated_at, created_at;

-- name: UserDeactivate :execrows
-- Since when stays as it is where the user is deactivated already. No rows: no such user.
UPDATE app_user SET deactivated_at = coalesce(deactivated_at, @now::timestamptz) WHERE user_id = @user_id;

-- name: UserEnsure :exec
-- Makes a user with an empty profile where there is none.
INSERT INTO app_user (user_id, created_at) VALUES (@user_id, @now::timestamptz) ON CONFLICT (user_id) DO NOTHING;

-- name: UserLock :one
-- Locks a user against everybody else who locks them, and against changes of the user.
SELECT (deactivated_at IS NOT NULL)::boolean AS deactivated FROM app_user WHERE user_id = @user_id FOR NO KEY UPDATE;

-- name: UserLockMany :exec
-- UserLock of many, in byte order of their ids.
SELECT FROM app_user WHERE user_id = ANY (@user_ids::text[]) ORDER BY user_id FOR NO KEY UPDATE;

-- name: UserLockShared :one
-- Locks a user against UserLock and changes of the user, together with others who share the lock.
SELECT (deactivated_at IS NOT NULL)::boolean AS deactivated FROM app_user WHERE user_id = @user_id FOR SHARE;

-- name: TableEstimates :one
-- How many rows the large tables have, without counting them: as of the last vacuum or analyze, or as the activity
-- statistics say, whichever is more. The one is -1 before the first vacuum, the other starts again after a crash.
SELECT greatest(u.reltuples::bigint, pg_stat_get_live_tuples(u.oid), 0)::bigint AS users,
    greatest(s.reltuples::bigint, pg_stat_get_live_tuples(s.oid), 0)::bigint AS sessions,
    greatest(m.reltuples::bigint, pg_stat_get_live_tuples(m.oid), 0)::bigint AS messages
FROM pg_catalog.pg_class u, pg_catalog.pg_class s, pg_catalog.pg_class m
WHERE u.oid = 'app_user'::regclass AND s.oid = 'session'::regclass AND m.oid = 'msg'::regclass;
