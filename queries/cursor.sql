-- How far each device has got.

-- name: CursorUpsertMany :exec
-- Moves cursors forward, never back, unless the log has another life than epoch, whose seqs mean other entries; an empty
-- epoch is any. Ordered, so that two nodes never wait for each other crosswise.
INSERT INTO device_cursor (user_id, device_id, session_id, acked_seq)
SELECT u.user_id, u.device_id, u.session_id, u.seq
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@device_ids::text[]) AS device_id,
        unnest(@session_ids::uuid[]) AS session_id, unnest(@seqs::bigint[]) AS seq) u
WHERE @epoch::text = '' OR parley_epoch() = @epoch
ORDER BY u.user_id, u.device_id, u.session_id
ON CONFLICT (user_id, device_id, session_id)
    DO UPDATE SET acked_seq = excluded.acked_seq WHERE device_cursor.acked_seq < excluded.acked_seq;

-- name: CursorDeleteDevice :exec
DELETE FROM device_cursor WHERE user_id = @user_id AND device_id = @device_id;

-- name: DeviceSetSynced :exec
UPDATE user_to_device SET synced_at = @now::timestamptz WHERE user_id = @user_id AND device_id = @device_id;

-- name: PositionListActiveIDs :many
SELECT session_id FROM user_to_session WHERE user_id = @user_id AND left_seq IS NULL;

-- name: PositionList :many
-- Where a user and a device stand in the given sessions; those that the user never was in are left out. OFFSET 0 makes it
-- look-ups by key.
SELECT m.session_id, m.role, m.joined_seq, m.visible_seq, m.left_seq, m.earlier, m.deleted_to_seq, s.last_seq,
    m.is_muted, m.notifications_muted, m.is_pinned, m.is_archived,
    (c.acked_seq IS NOT NULL)::boolean AS has_cursor, coalesce(c.acked_seq, 0)::bigint AS acked_seq
FROM user_to_session m
CROSS JOIN LATERAL (SELECT x.last_seq FROM session x WHERE x.session_id = m.session_id AND x.last_seq > 0 OFFSET 0) s
LEFT JOIN LATERAL (SELECT y.acked_seq FROM device_cursor y
    WHERE y.user_id = @user_id AND y.device_id = @device_id AND y.session_id = m.session_id OFFSET 0) c ON true
WHERE m.user_id = @user_id AND m.session_id = ANY (@session_ids::uuid[])
ORDER BY m.session_id;

-- name: StartList :many
-- All that devices need to start, from one snapshot: a row per device and session, ascending by the device's number and
-- the session; a device without sessions has one row with the nil session. Sessions are those the user is in, and those
-- left whose end the device has not acknowledged (all those left, where named). The cursors of a device that starts
-- afresh do not count.
-- state_from: exceptions holds the user's exceptions with seq > state_from, deleted ones negative, ascending by seq, at
-- most_exceptions at most: as many as that means that they may not all be there. What lies below deleted_to_seq needs none.
-- stream_number: the number of the device's new stream, the same in all its rows; every device of every asking gets one.
-- OFFSET 0 keeps the planner on the primary keys: every step is one look-up or one short range for a device's session.
-- A CASE is what keeps a session that has nothing new from costing more than its look-ups.
SELECT q.number::integer AS number, q.stream_number::bigint AS stream_number, (d.device_id IS NOT NULL)::boolean AS known, (d.revoked_at IS NOT NULL)::boolean AS revoked,
    (d.synced_at IS NOT NULL)::boolean AS synced,
    coalesce(p.session_id, '00000000-0000-0000-0000-000000000000')::uuid AS session_id, coalesce(p.role, 0)::smallint AS role,
    coalesce(p.joined_seq, 0)::bigint AS joined_seq, coalesce(p.visible_seq, 0)::bigint AS visible_seq,
    coalesce(p.left_seq, 0)::bigint AS left_seq, coalesce(p.earlier, '{}')::int8multirange AS earlier, coalesce(p.last_seq, 0)::bigint AS last_seq,
    coalesce(p.settings, 0)::integer AS settings, coalesce(p.acked_seq, -1)::bigint AS acked_seq,
    coalesce(p.read_seq, 0)::bigint AS read_seq, coalesce(p.deleted_to_seq, 0)::bigint AS deleted_to_seq,
    coalesce(p.unread, 0)::bigint AS unread, coalesce(p.state_from, 0)::bigint AS state_from,
    coalesce(p.exceptions, '{}')::bigint[] AS exceptions
FROM (SELECT unnest(@numbers::integer[]) AS number, unnest(@user_ids::text[]) AS user_id,
        unnest(@device_ids::text[]) AS device_id, unnest(@fresh::boolean[]) AS fresh, unnest(@named::boolean[]) AS named,
        unnest(@counted::boolean[]) AS counted, nextval('stream_number') AS stream_number) q
LEFT JOIN LATERAL (
    SELECT x.device_id, x.revoked_at, x.synced_at FROM user_to_device x
    WHERE x.user_id = q.user_id AND x.device_id = q.device_id OFFSET 0) d ON true
LEFT JOIN LATERAL (
    SELECT w.session_id, w.role, w.joined_seq, w.visible_seq, w.left_seq, w.earlier, w.last_seq, w.settings, w.acked_seq,
        w.read_seq, w.deleted_to_seq, w.state_from,
        CASE WHEN q.counted AND w.left_seq IS NULL AND w.last_seq > w.read_to
            THEN parley_unread(q.user_id, w.session_id, w.read_to, w.countable_total) END AS unread,
        (CASE WHEN w.last_seq > greatest(w.state_from, w.deleted_to_seq) THEN (
            SELECT array_agg(f.signed ORDER BY f.seq_id) FROM (
                SELECT e.seq_id, (CASE WHEN e.is_delete THEN -1 ELSE 1 END * e.seq_id)::bigint AS signed FROM msg_state e
                WHERE e.user_id = q.user_id AND e.session_id = w.session_id
                    AND e.seq_id > greatest(w.state_from, w.deleted_to_seq)
                ORDER BY e.seq_id LIMIT @most_exceptions::integer) f) END) AS exceptions
    FROM (
        SELECT m.session_id, m.role, m.joined_seq, m.visible_seq, m.left_seq, m.earlier, m.read_seq, m.deleted_to_seq,
            (m.is_muted::integer + 2 * m.notifications_muted::integer + 4 * m.is_pinned::integer
                + 8 * m.is_archived::integer) AS settings, s.last_seq, s.countable_total, c.acked_seq,
            greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq) AS read_to,
            coalesce(c.acked_seq, CASE WHEN d.synced_at IS NULL OR q.fresh
                THEN greatest(m.joined_seq - 1, s.last_seq - @roam_backlog::bigint)
                ELSE coalesce(lower(m.earlier), m.joined_seq) - 1 END) AS state_from
        FROM user_to_session m
        CROSS JOIN LATERAL (
            SELECT x.last_seq, x.countable_total FROM session x
            WHERE x.session_id = m.session_id AND x.last_seq > 0 OFFSET 0) s
        LEFT JOIN LATERAL (
            SELECT x.acked_seq FROM device_cursor x
            WHERE x.user_id = m.user_id AND x.device_id = q.device_id AND x.session_id = m.session_id
                AND d.synced_at IS NOT NULL AND NOT q.fresh OFFSET 0) c ON true
        WHERE m.user_id = q.user_id AND (m.left_seq IS NULL OR q.named OR coalesce(c.acked_seq, 0) < m.left_seq)
        OFFSET 0) w) p ON true
ORDER BY q.number, p.session_id;
