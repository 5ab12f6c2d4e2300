-- The log: appending and reading back.

-- name: SessionLockMany :exec
-- First step of every batch: after it no other transaction moves these sessions' heads. In id order, so that two batches
-- never wait for each other crosswise.
SELECT session_id FROM session WHERE session_id = ANY (@session_ids::uuid[]) ORDER BY session_id FOR UPDATE;

-- name: SessionEnsureDirect :exec
-- Makes the direct sessions that a batch is first to use, with both memberships. A pair that may not talk (one of them
-- unknown, deactivated or blocked by the other) gets none.
WITH wanted AS (
    SELECT unnest(@session_ids::uuid[]) AS session_id, unnest(@lows::text[]) AS low, unnest(@highs::text[]) AS high
), made AS (
    INSERT INTO session (session_id, kind, owner_id, direct_low, direct_high, member_count, created_at)
    SELECT w.session_id, 1, w.low, w.low, w.high, 2, @now::timestamptz
    FROM wanted w
    JOIN app_user a ON a.user_id = w.low AND a.deactivated_at IS NULL
    JOIN app_user b ON b.user_id = w.high AND b.deactivated_at IS NULL
    WHERE NOT EXISTS (
        SELECT FROM user_to_user r
        WHERE r.kind = 3 AND ((r.user_id = w.low AND r.peer_id = w.high) OR (r.user_id = w.high AND r.peer_id = w.low)))
    ORDER BY w.session_id
    ON CONFLICT (session_id) DO NOTHING
    RETURNING session_id, direct_low, direct_high
)
INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
SELECT u.user_id, m.session_id, 1, 1, 1
FROM made m CROSS JOIN LATERAL (VALUES (m.direct_low), (m.direct_high)) AS u (user_id);

-- name: MessageAppendBatch :many
-- Second step, under the locks of the first: judges every item by itself, gives seqs to those that pass, and writes them.
-- verdict: 0 appended, 1 repeated (the first answer is returned), 2 id reused with another body, 3 no such session or not
-- a member, 4 muted, 5 role too low, 6 peer unavailable, 7 peer blocked by the sender, 8 device revoked, 9 user
-- deactivated, 10 reply_to_seq not visible. peer is the other user where a direct session was asked for by user. Items must not repeat a (session, msg_id, user) among themselves.
WITH item AS (
    SELECT generate_subscripts(@session_ids::uuid[], 1)::integer AS ord,
        unnest(@session_ids::uuid[]) AS session_id,
        unnest(@msg_ids::uuid[]) AS msg_id,
        unnest(@user_ids::text[]) AS user_id,
        unnest(@device_ids::text[]) AS device_id,
        unnest(@types::smallint[]) AS type,
        unnest(@contents::bytea[]) AS content,
        unnest(@digests::bigint[]) AS digest,
        unnest(@replies::bigint[]) AS reply_to_seq,
        unnest(@peers::text[]) AS peer
), judged AS (
    SELECT i.*, s.last_seq, s.countable_total, old.seq_id AS old_seq, old.created_at AS old_created_at,
        CASE
            WHEN old.digest = i.digest THEN 1
            WHEN old.seq_id IS NOT NULL THEN 2
            WHEN s.session_id IS NULL AND i.peer <> '' AND EXISTS (
                SELECT FROM user_to_user b WHERE b.user_id = i.user_id AND b.kind = 3 AND b.peer_id = i.peer) THEN 7
            WHEN s.session_id IS NULL AND i.peer <> '' THEN 6
            -- A direct session whose first message was refused is there without an entry: for all others it is not.
            WHEN s.last_seq = 0 AND s.kind = 1 AND i.peer = '' THEN 3
            WHEN s.session_id IS NULL OR m.user_id IS NULL OR m.left_seq IS NOT NULL THEN 3
            WHEN u.user_id IS NULL OR u.deactivated_at IS NOT NULL THEN 9
            WHEN d.user_id IS NULL OR d.revoked_at IS NOT NULL THEN 8
            WHEN m.is_muted THEN 4
            WHEN m.role < s.send_role THEN 5
            WHEN s.kind = 1 AND EXISTS (
                SELECT FROM user_to_user b WHERE b.user_id = i.user_id AND b.kind = 3
                    AND b.peer_id = CASE WHEN s.direct_low = i.user_id THEN s.direct_high ELSE s.direct_low END) THEN 7
            WHEN s.kind = 1 AND (EXISTS (
                SELECT FROM user_to_user b WHERE b.peer_id = i.user_id AND b.kind = 3
                    AND b.user_id = CASE WHEN s.direct_low = i.user_id THEN s.direct_high ELSE s.direct_low END)
                OR EXISTS (SELECT FROM app_user p WHERE p.deactivated_at IS NOT NULL
                    AND p.user_id = CASE WHEN s.direct_low = i.user_id THEN s.direct_high ELSE s.direct_low END)) THEN 6
            WHEN i.reply_to_seq > 0 AND (i.reply_to_seq > s.last_seq
                OR NOT (i.reply_to_seq >= m.visible_seq OR m.earlier @> i.reply_to_seq)) THEN 10
            ELSE 0
        END AS verdict
    FROM item i
    -- One look-up by key each, whatever the planner thinks of the tables' sizes: LIMIT keeps it from joining them whole.
    LEFT JOIN LATERAL (SELECT * FROM session x WHERE x.session_id = i.session_id LIMIT 1) s ON true
    LEFT JOIN LATERAL (SELECT * FROM user_to_session x
        WHERE x.user_id = i.user_id AND x.session_id = i.session_id LIMIT 1) m ON true
    LEFT JOIN LATERAL (SELECT * FROM app_user x WHERE x.user_id = i.user_id LIMIT 1) u ON true
    LEFT JOIN LATERAL (SELECT * FROM user_to_device x
        WHERE x.user_id = i.user_id AND x.device_id = i.device_id LIMIT 1) d ON true
    LEFT JOIN LATERAL (SELECT x.seq_id, x.digest, x.created_at FROM msg x
        WHERE x.session_id = i.session_id AND x.msg_id = i.msg_id AND x.user_id = i.user_id LIMIT 1) old ON true
), accepted AS (
    SELECT j.*, row_number() OVER (PARTITION BY j.session_id ORDER BY j.ord) AS nth FROM judged j WHERE j.verdict = 0
), inserted AS (
    INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
    SELECT a.session_id, a.last_seq + a.nth, a.msg_id, a.user_id, a.device_id, a.type, a.content, a.digest,
        a.countable_total + a.nth, @now::timestamptz
    FROM accepted a
), head AS (
    SELECT a.session_id, max(a.last_seq + a.nth) AS seq, max(a.nth) AS added FROM accepted a GROUP BY a.session_id
), bumped AS (
    UPDATE session s SET last_seq = h.seq, countable_total = s.countable_total + h.added
    FROM head h WHERE s.session_id = h.session_id
), own AS (
    SELECT a.user_id, a.session_id, max(a.last_seq + a.nth) AS seq FROM accepted a GROUP BY a.user_id, a.session_id
), read_up AS (
    UPDATE user_to_session m SET read_seq = own.seq, marked_unread = false FROM own
    WHERE m.user_id = own.user_id AND m.session_id = own.session_id AND m.read_seq < own.seq
), logged AS (
    INSERT INTO commit_log (session_ids, heads, sent_users, sent_sessions)
    SELECT array_agg(h.session_id), array_agg(h.seq),
        (SELECT array_agg(o.user_id ORDER BY o.user_id, o.session_id) FROM own o),
        (SELECT array_agg(o.session_id ORDER BY o.user_id, o.session_id) FROM own o)
    FROM head h HAVING count(*) > 0
)
SELECT j.ord, j.verdict::integer AS verdict,
    coalesce(j.old_seq, j.last_seq + a.nth, 0)::bigint AS seq,
    coalesce(j.old_created_at, @now::timestamptz)::timestamptz AS created_at
FROM judged j LEFT JOIN accepted a ON a.ord = j.ord
ORDER BY j.ord;

-- name: MessageAppend :exec
-- Appends one entry made by the server (a recall, a change of members or settings). The caller holds the session's lock
-- and has bumped its head.
INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
VALUES (@session_id, @seq_id, @msg_id, @user_id, @device_id, @type, @content, 0, @countable_no, @created_at);

-- name: SessionBump :one
-- Takes the next seq for a server-made entry, which counts as unread for nobody.
UPDATE session SET last_seq = last_seq + 1 WHERE session_id = @session_id RETURNING last_seq, countable_total;

-- name: CommitLogAppend :one
INSERT INTO commit_log (session_ids, heads, state_users, state_sessions, recalls)
VALUES (@session_ids::uuid[], @heads::bigint[], @state_users::text[], @state_sessions::uuid[],
    coalesce(@recalls::uuid[], '{}')) RETURNING id;

-- name: MessageErase :execrows
-- Erases a body: the recall of seq_id by the entry recall_seq.
UPDATE msg SET content = NULL, is_delete = true, recall_seq = @recall_seq::bigint
WHERE session_id = @session_id AND seq_id = @seq_id AND NOT is_delete;

-- name: MessageGetLocked :one
-- What a recall needs to know of its message; under the session's lock.
SELECT user_id, msg_id, type, is_delete, recall_seq FROM msg WHERE session_id = @session_id AND seq_id = @seq_id;

-- name: MessageListRanges :many
-- Entries of several ranges (session, from, to], ascending by seq within each, at most max_entries of each range.
SELECT q.ord::integer AS ord, m.session_id, m.seq_id, m.msg_id, m.user_id, m.device_id, m.type, m.content, m.is_delete,
    m.created_at
FROM (SELECT generate_subscripts(@session_ids::uuid[], 1) AS ord, unnest(@session_ids::uuid[]) AS session_id,
        unnest(@from_seqs::bigint[]) AS from_seq, unnest(@to_seqs::bigint[]) AS to_seq) q
CROSS JOIN LATERAL (
    SELECT * FROM msg g WHERE g.session_id = q.session_id AND g.seq_id > q.from_seq AND g.seq_id <= q.to_seq
    ORDER BY g.seq_id LIMIT @max_entries::integer) m
ORDER BY q.ord, m.seq_id;
