-- Sessions and who is in them.

-- name: SessionLock :one
-- First step of every change beside plain sends: until the transaction ends nobody else moves this session's head or
-- changes its members. Returns the row as it is after the wait.
SELECT * FROM session WHERE session_id = @session_id FOR UPDATE;

-- name: SessionCreate :execrows
-- Makes a group with head 0 and no members. No row is made when there is one already, which is known only after any
-- transaction that is making it has ended.
INSERT INTO session (session_id, kind, owner_id, title, avatar_url, history_visible, send_role, created_at)
VALUES (@session_id, 2, @owner_id, @title, @avatar_url, @history_visible, @send_role, @created_at)
ON CONFLICT (session_id) DO NOTHING;

-- name: SessionUpdate :exec
UPDATE session SET title = @title, avatar_url = @avatar_url, history_visible = @history_visible, send_role = @send_role
WHERE session_id = @session_id;

-- name: SessionHeads :many
SELECT session_id, last_seq FROM session WHERE session_id = ANY (@session_ids::uuid[]);

-- name: MemberGet :one
-- A membership, ended ones too.
SELECT * FROM user_to_session WHERE user_id = @user_id AND session_id = @session_id;

-- name: MemberCountRole :one
SELECT count(*) FROM user_to_session WHERE session_id = @session_id AND left_seq IS NULL AND role = @role;

-- name: MemberCandidates :many
-- What stands against making users members, one row per user id in the order given. Available are those who exist, are
-- not deactivated and have not blocked the user who asks. parts: how many parts of the log those see who were members once.
-- OFFSET 0 makes it look-ups by key.
SELECT c.user_id::text AS user_id,
    (a.user_id IS NOT NULL AND a.deactivated_at IS NULL AND b.peer_id IS NULL)::boolean AS is_available,
    (m.user_id IS NOT NULL AND m.left_seq IS NULL)::boolean AS is_member,
    (CASE WHEN m.left_seq IS NULL THEN 0 ELSE 1 + (SELECT count(*) FROM unnest(m.earlier)) END)::integer AS parts
FROM (SELECT generate_subscripts(@user_ids::text[], 1) AS ord, unnest(@user_ids::text[]) AS user_id) c
LEFT JOIN LATERAL (SELECT u.user_id, u.deactivated_at FROM app_user u WHERE u.user_id = c.user_id OFFSET 0) a ON true
LEFT JOIN LATERAL (SELECT r.peer_id FROM user_to_user r
    WHERE r.user_id = c.user_id AND r.peer_id = @asked_by AND r.kind = 3 OFFSET 0) b ON true
LEFT JOIN LATERAL (SELECT p.user_id, p.left_seq, p.earlier FROM user_to_session p
    WHERE p.user_id = c.user_id AND p.session_id = @session_id OFFSET 0) m ON true
ORDER BY c.ord;

-- name: MemberJoin :one
-- Makes users members from the entry seq on. Who was one before keeps what they could see, as an earlier range; where
-- the whole log is shown that is part of it anyway. Members stay as they are. Returns how many members there are now.
WITH joined AS (
    INSERT INTO user_to_session AS m (user_id, session_id, role, joined_seq, visible_seq)
    SELECT u.user_id, @session_id, @role, @seq::bigint, CASE WHEN @from_start::boolean THEN 1 ELSE @seq::bigint END
    FROM (SELECT unnest(@user_ids::text[]) AS user_id) u
    ON CONFLICT (user_id, session_id) DO UPDATE SET role = excluded.role, joined_seq = excluded.joined_seq,
        visible_seq = excluded.visible_seq, left_seq = NULL, is_muted = false,
        earlier = CASE WHEN excluded.visible_seq = 1 THEN '{}'::int8multirange
            ELSE m.earlier + int8multirange(int8range(m.visible_seq, m.left_seq, '[]')) END
        WHERE m.left_seq IS NOT NULL
    RETURNING m.user_id
)
UPDATE session s SET member_count = s.member_count + (SELECT count(*) FROM joined)
WHERE s.session_id = @session_id
RETURNING s.member_count;

-- name: MemberLeave :one
-- Ends a membership with the entry seq, the last that the user sees of it. Returns how many members there are now.
WITH ended AS (
    UPDATE user_to_session m SET left_seq = @seq::bigint
    WHERE m.user_id = @user_id AND m.session_id = @session_id AND m.left_seq IS NULL
    RETURNING m.user_id
)
UPDATE session s SET member_count = s.member_count - (SELECT count(*) FROM ended)
WHERE s.session_id = @session_id
RETURNING s.member_count;

-- name: MemberSetRole :exec
UPDATE user_to_session SET role = @role WHERE user_id = @user_id AND session_id = @session_id AND left_seq IS NULL;

-- name: MemberSetMuted :exec
UPDATE user_to_session SET is_muted = @is_muted
WHERE user_id = @user_id AND session_id = @session_id AND left_seq IS NULL;

-- name: MemberList :many
-- Members with user_id > after_user in byte order. Nobody is listed for a viewer who is no member.
SELECT m.user_id, a.display_name, m.role, m.joined_seq, m.read_seq, m.is_muted
FROM user_to_session m
JOIN app_user a ON a.user_id = m.user_id
WHERE m.session_id = @session_id AND m.left_seq IS NULL AND m.user_id > @after_user::text
    AND EXISTS (SELECT FROM user_to_session v
        WHERE v.user_id = @viewer AND v.session_id = @session_id AND v.left_seq IS NULL)
ORDER BY m.user_id LIMIT @max_members::integer;

-- name: MemberListIDs :many
SELECT user_id FROM user_to_session WHERE session_id = @session_id AND left_seq IS NULL ORDER BY user_id;

-- name: MembershipGet :one
-- A user's part in a session, ended ones too, with the session. A session without entries is not there yet. reach: what
-- stands between the two of a direct session; 1 a block of the user's, 2 one of the other's, or that the other is
-- deactivated.
SELECT sqlc.embed(m), sqlc.embed(s), (CASE
    WHEN s.kind <> 1 THEN 0
    WHEN EXISTS (SELECT FROM user_to_user b WHERE b.user_id = m.user_id AND b.kind = 3
        AND b.peer_id = CASE WHEN s.direct_low = m.user_id THEN s.direct_high ELSE s.direct_low END) THEN 1
    WHEN EXISTS (SELECT FROM user_to_user b WHERE b.peer_id = m.user_id AND b.kind = 3
        AND b.user_id = CASE WHEN s.direct_low = m.user_id THEN s.direct_high ELSE s.direct_low END) THEN 2
    WHEN EXISTS (SELECT FROM app_user a WHERE a.deactivated_at IS NOT NULL
        AND a.user_id = CASE WHEN s.direct_low = m.user_id THEN s.direct_high ELSE s.direct_low END) THEN 2
    ELSE 0 END)::smallint AS reach
FROM user_to_session m JOIN session s ON s.session_id = m.session_id
WHERE m.user_id = @user_id AND m.session_id = @session_id AND s.last_seq > 0;

-- name: MembershipUpdate :one
-- Changes a member's own settings; NULL leaves one as it is. No row means no such member. A change is noted for the
-- nodes that have devices of the user: the triggers pass over these columns.
WITH changed AS (
    UPDATE user_to_session m SET
        notifications_muted = coalesce(sqlc.narg('notifications_muted')::boolean, m.notifications_muted),
        is_pinned = coalesce(sqlc.narg('is_pinned')::boolean, m.is_pinned),
        is_archived = coalesce(sqlc.narg('is_archived')::boolean, m.is_archived)
    WHERE m.user_id = @user_id AND m.session_id = @session_id AND m.left_seq IS NULL
        AND (m.notifications_muted <> coalesce(sqlc.narg('notifications_muted')::boolean, m.notifications_muted)
            OR m.is_pinned <> coalesce(sqlc.narg('is_pinned')::boolean, m.is_pinned)
            OR m.is_archived <> coalesce(sqlc.narg('is_archived')::boolean, m.is_archived))
    RETURNING m.user_id, m.session_id
), noted AS (
    INSERT INTO relation_change (kind, user_id, other_id) SELECT 4, c.user_id, c.session_id::text FROM changed c
)
SELECT EXISTS (SELECT FROM changed)::boolean AS is_changed
FROM user_to_session o JOIN session s ON s.session_id = o.session_id
WHERE o.user_id = @user_id AND o.session_id = @session_id AND o.left_seq IS NULL AND s.last_seq > 0;

-- name: MembershipListFull :many
-- Those of the users who are in at least max_sessions sessions now. Looks at no more rows of a user than it takes to
-- tell.
SELECT u.user_id::text AS user_id
FROM (SELECT unnest(@user_ids::text[]) AS user_id) u
WHERE (SELECT count(*) FROM (SELECT FROM user_to_session m
        WHERE m.user_id = u.user_id AND m.left_seq IS NULL LIMIT @max_sessions::integer) n) >= @max_sessions::integer;

-- name: SessionViewList :many
-- Sessions as a user sees them, those with from_id <= session_id <= to_id, ordered by id: the user's part, the last
-- entry that the user can see with the user's exceptional state of it, and what is unread (nothing once the user has
-- left). Sessions without entries, direct ones whose first message was refused, are left out. The page is cut before
-- anything is counted. The LIMIT 1 keeps the user's rows on the outside, and the head in the page lets the last entry be
-- found by its key: left to itself, the planner reads whole logs or the sessions of everybody. So does a join by equality of two
-- columns, hence the ANYs and BETWEENs: decision 20.
SELECT sqlc.embed(m), sqlc.embed(s),
    (CASE WHEN m.left_seq IS NOT NULL OR s.last_seq <= greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq) THEN 0
        ELSE parley_unread(m.user_id, m.session_id, greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq),
            s.countable_total) END)::bigint AS unread,
    g.seq_id AS last_seq_id, g.msg_id AS last_msg_id, g.user_id AS last_user_id, g.device_id AS last_device_id,
    g.type AS last_type, g.content AS last_content, g.is_delete AS last_is_delete, g.created_at AS last_created_at,
    coalesce(st.is_read, false)::boolean AS last_read_apart,
    coalesce(st.is_delete, false)::boolean AS last_deleted_apart
FROM (
    SELECT p.user_id, p.session_id, coalesce(p.left_seq, e.last_seq) AS head
    FROM user_to_session p
    CROSS JOIN LATERAL (SELECT h.last_seq FROM session h WHERE h.session_id = p.session_id LIMIT 1) e
    WHERE p.user_id = @user_id AND p.session_id >= @from_id AND p.session_id <= @to_id
        AND (@include_left::boolean OR p.left_seq IS NULL) AND e.last_seq > 0
    ORDER BY p.session_id LIMIT @max_sessions::integer
) page
JOIN user_to_session m ON m.user_id = ANY (ARRAY[page.user_id]) AND m.session_id BETWEEN page.session_id AND page.session_id
JOIN session s ON s.session_id = ANY (ARRAY[page.session_id])
LEFT JOIN msg g ON g.session_id = ANY (ARRAY[page.session_id]) AND g.seq_id BETWEEN page.head AND page.head
LEFT JOIN LATERAL (SELECT x.is_read, x.is_delete FROM msg_state x
    WHERE x.user_id = page.user_id AND x.session_id = page.session_id AND x.seq_id = page.head OFFSET 0) st ON true
ORDER BY page.session_id;
