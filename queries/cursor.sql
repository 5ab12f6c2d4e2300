-- How far each device has got.

-- name: CursorUpsertMany :exec
-- Moves cursors forward, never back. Ordered, so that two nodes never wait for each other crosswise.
INSERT INTO device_cursor (user_id, device_id, session_id, acked_seq)
SELECT u.user_id, u.device_id, u.session_id, u.seq
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@device_ids::text[]) AS device_id,
        unnest(@session_ids::uuid[]) AS session_id, unnest(@seqs::bigint[]) AS seq) u
ORDER BY u.user_id, u.device_id, u.session_id
ON CONFLICT (user_id, device_id, session_id)
    DO UPDATE SET acked_seq = excluded.acked_seq WHERE device_cursor.acked_seq < excluded.acked_seq;

-- name: CursorDeleteDevice :exec
DELETE FROM device_cursor WHERE user_id = @user_id AND device_id = @device_id;

-- name: DeviceSetSynced :exec
UPDATE user_to_device SET synced_at = @now::timestamptz WHERE user_id = @user_id AND device_id = @device_id;

-- name: DeviceGetSynced :one
SELECT (synced_at IS NOT NULL)::boolean AS synced FROM user_to_device WHERE user_id = @user_id AND device_id = @device_id;

-- name: PositionListActiveIDs :many
SELECT session_id FROM user_to_session WHERE user_id = @user_id AND left_seq IS NULL;

-- name: PositionList :many
-- Where a user and a device stand in the given sessions, or, when all_sessions, in all: those the user is in, and those
-- left whose end the device has not acknowledged.
SELECT m.session_id, m.role, m.joined_seq, m.visible_seq, m.left_seq, m.earlier, m.deleted_to_seq, s.last_seq,
    m.is_muted, m.notifications_muted, m.is_pinned, m.is_archived, c.acked_seq
FROM user_to_session m
JOIN session s ON s.session_id = m.session_id AND s.last_seq > 0
LEFT JOIN device_cursor c ON c.user_id = m.user_id AND c.device_id = @device_id AND c.session_id = m.session_id
WHERE m.user_id = @user_id
    AND (@all_sessions::boolean OR m.session_id = ANY (@session_ids::uuid[]))
    AND (m.left_seq IS NULL OR NOT @all_sessions::boolean OR coalesce(c.acked_seq, 0) < m.left_seq)
ORDER BY m.session_id;
