-- What messages are to users: read, deleted for oneself. State of (user, message) is the watermark read_seq, the line
-- deleted_to_seq, and the exceptions in msg_state.

-- name: StateLock :many
-- First step of a change: from here on nobody else moves this user's cursors in this session, the user's own sends
-- included. The session's row must not be locked after it: sends lock the session first and this row then.
SELECT user_id, session_id FROM user_to_session WHERE user_id = @user_id AND session_id = @session_id FOR UPDATE;

-- name: StateLockMany :many
-- StateLock for many, in the order given, without those whose lock is not free at once. Nobody who holds one of these locks
-- waits for another, so no deadlock can come of it, in whatever order sends lock their senders' rows.
SELECT m.user_id, m.session_id
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@session_ids::uuid[]) AS session_id) q
CROSS JOIN LATERAL (
    SELECT u.user_id, u.session_id FROM user_to_session u
    WHERE u.user_id = q.user_id AND u.session_id = q.session_id FOR UPDATE SKIP LOCKED) m;

-- name: StateStandingMany :many
-- StateStanding for many, in a statement of its own after the locks for the same reason. any_exceptions spares a change
-- the look for exceptions to drop. OFFSET 0 makes it look-ups by key.
SELECT m.user_id, m.session_id, m.read_seq, m.deleted_to_seq, m.marked_unread, (m.left_seq IS NULL)::boolean AS active,
    s.last_seq, (m.earlier + int8multirange(int8range(m.visible_seq, m.left_seq, '[]')))::int8multirange AS visible,
    EXISTS (SELECT FROM msg_state st WHERE st.user_id = m.user_id AND st.session_id = m.session_id) AS any_exceptions
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@session_ids::uuid[]) AS session_id) q
CROSS JOIN LATERAL (
    SELECT * FROM user_to_session u WHERE u.user_id = q.user_id AND u.session_id = q.session_id OFFSET 0) m
CROSS JOIN LATERAL (
    SELECT x.last_seq FROM session x WHERE x.session_id = m.session_id AND x.last_seq > 0 OFFSET 0) s;

-- name: StateStanding :one
-- What a user can see of a session and has read of it. A statement of its own after StateLock, because one that had to
-- wait for the lock would still see the head of before.
SELECT m.read_seq, m.deleted_to_seq, m.marked_unread, (m.left_seq IS NULL)::boolean AS active, s.last_seq,
    (m.earlier + int8multirange(int8range(m.visible_seq, m.left_seq, '[]')))::int8multirange AS visible
FROM user_to_session m JOIN session s ON s.session_id = m.session_id AND s.last_seq > 0
WHERE m.user_id = @user_id AND m.session_id = @session_id;

-- name: StateExcept :many
-- Makes exceptions of those of the entries that lie above a cursor: read, or deleted and therefore read. Entries that
-- do not count as unread need none to be read. Returns the seqs whose state changed.
INSERT INTO msg_state AS st (user_id, session_id, seq_id, msg_id, is_read, is_delete)
SELECT @user_id, g.session_id, g.seq_id, g.msg_id, true, @is_delete::boolean
FROM msg g
WHERE g.session_id = @session_id AND g.seq_id = ANY (@seqs::bigint[]) AND g.seq_id > @above_seq::bigint
    AND (@is_delete::boolean OR g.type <= 3)
ON CONFLICT (user_id, session_id, seq_id) DO UPDATE SET is_read = true, is_delete = st.is_delete OR excluded.is_delete
    WHERE NOT st.is_read OR (excluded.is_delete AND NOT st.is_delete)
RETURNING st.seq_id;

-- name: StateFirstUnread :one
-- The first entry within ranges (from, to] that keeps a watermark from passing: countable, not recalled, by somebody
-- else, and no exception says that it is read. Ranges must be disjoint; sorted first, each is searched only if those
-- below have none. OFFSET 0 keeps the planner from joining: it takes parameters for rare and would go over all of the
-- user's exceptions for every entry, where one look-up tells.
SELECT f.seq_id
FROM (SELECT unnest(@from_seqs::bigint[]) AS from_seq, unnest(@to_seqs::bigint[]) AS to_seq ORDER BY from_seq) q
CROSS JOIN LATERAL (
    SELECT g.seq_id FROM msg g
    WHERE g.session_id = @session_id AND g.seq_id > q.from_seq AND g.seq_id <= q.to_seq
        AND g.type <= 3 AND NOT g.is_delete AND g.user_id <> @user_id
        AND NOT EXISTS (SELECT FROM msg_state st
            WHERE st.user_id = @user_id AND st.session_id = @session_id AND st.seq_id = g.seq_id AND st.is_read OFFSET 0)
    ORDER BY g.seq_id LIMIT 1) f
ORDER BY q.from_seq LIMIT 1;

-- name: StateSaveMany :exec
-- Moves cursors, which never go back, and sets flags. The key is asked for without an equality of two columns, which
-- keeps the plan a look-up by key whatever the statistics say: decision 20.
UPDATE user_to_session m SET read_seq = greatest(m.read_seq, q.read_seq),
    deleted_to_seq = greatest(m.deleted_to_seq, q.deleted_to_seq), marked_unread = q.marked_unread
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@session_ids::uuid[]) AS session_id,
        unnest(@read_seqs::bigint[]) AS read_seq, unnest(@deleted_to_seqs::bigint[]) AS deleted_to_seq,
        unnest(@marked_unreads::boolean[]) AS marked_unread) q
WHERE m.user_id = ANY (ARRAY[q.user_id]) AND m.session_id BETWEEN q.session_id AND q.session_id;

-- name: StateForgetRead :exec
-- Drops the exceptions that say no more than a watermark that moved from before_seq to read_seq. Below before_seq
-- only the nearest rows are looked at: what a send left there, when it moved the watermark, goes with the next marks,
-- and a user who deleted very many messages one by one does not pay for all of them with each mark.
DELETE FROM msg_state d
WHERE d.user_id = @user_id AND d.session_id = @session_id AND d.seq_id <= @read_seq::bigint AND NOT d.is_delete
    AND d.seq_id > coalesce((SELECT o.seq_id FROM msg_state o
        WHERE o.user_id = @user_id AND o.session_id = @session_id AND o.seq_id <= @before_seq::bigint
        ORDER BY o.seq_id DESC OFFSET @nearest::integer LIMIT 1), 0);

-- name: StateForgetDeleted :exec
-- Drops the exceptions that say no more than the line up to which everything is deleted.
DELETE FROM msg_state
WHERE user_id = @user_id AND session_id = @session_id AND seq_id <= @deleted_to_seq::bigint;

-- name: StateViews :many
-- A user's cursors and unread counts in the given sessions, ended memberships too: those have nothing unread. OFFSET 0
-- makes it look-ups by key; left alone the planner goes over all sessions of the user, which are few on average, or over
-- everybody's.
SELECT m.session_id, (m.left_seq IS NULL)::boolean AS active, m.read_seq, m.deleted_to_seq, m.marked_unread,
    (CASE WHEN m.left_seq IS NOT NULL OR s.last_seq <= greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq) THEN 0
        ELSE parley_unread(@user_id, m.session_id, greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq),
            s.countable_total) END)::bigint AS unread
FROM (SELECT DISTINCT unnest(@session_ids::uuid[]) AS session_id) q
CROSS JOIN LATERAL (
    SELECT u.session_id, u.left_seq, u.joined_seq, u.read_seq, u.deleted_to_seq, u.marked_unread FROM user_to_session u
    WHERE u.user_id = @user_id AND u.session_id = q.session_id OFFSET 0) m
CROSS JOIN LATERAL (
    SELECT x.last_seq, x.countable_total FROM session x WHERE x.session_id = m.session_id OFFSET 0) s
ORDER BY m.session_id;

-- name: StateUnreadMany :many
-- What is unread for each of many users in a session of theirs, by the rules of StateViews.
SELECT m.user_id, m.session_id,
    (CASE WHEN m.left_seq IS NOT NULL OR s.last_seq <= greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq) THEN 0
        ELSE parley_unread(m.user_id, m.session_id, greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq),
            s.countable_total) END)::bigint AS unread
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@session_ids::uuid[]) AS session_id) q
CROSS JOIN LATERAL (
    SELECT * FROM user_to_session u WHERE u.user_id = q.user_id AND u.session_id = q.session_id OFFSET 0) m
CROSS JOIN LATERAL (
    SELECT x.last_seq, x.countable_total FROM session x WHERE x.session_id = m.session_id OFFSET 0) s;

-- name: StateUnreadList :many
-- The sessions a user is in now that have something unread or are flagged so. The formula runs once per session, and
-- not at all for those that are read to the head. OFFSET 0 makes it look-ups by key.
WITH counted AS MATERIALIZED (
    SELECT m.session_id, m.read_seq, m.deleted_to_seq, m.marked_unread,
        (CASE WHEN s.last_seq <= greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq) THEN 0
            ELSE parley_unread(m.user_id, m.session_id, greatest(m.joined_seq - 1, m.deleted_to_seq, m.read_seq),
                s.countable_total) END)::bigint AS unread
    FROM user_to_session m
    CROSS JOIN LATERAL (
        SELECT x.last_seq, x.countable_total FROM session x WHERE x.session_id = m.session_id OFFSET 0) s
    WHERE m.user_id = @user_id AND m.left_seq IS NULL
)
SELECT session_id, read_seq, deleted_to_seq, marked_unread, unread FROM counted
WHERE unread > 0 OR marked_unread
ORDER BY session_id;

-- name: StateKept :many
-- A user's cursors in sessions with what they do not tell: all exceptions above them, or where those are more than
-- max_exceptions, only the ones within the ranges (session, from, to]. One statement, so that cursors and exceptions are of
-- one moment. Sessions that the user never was in have no row. OFFSET 0 keeps the planner on the keys.
WITH bound AS (
    SELECT @max_exceptions::integer AS n
), asked AS MATERIALIZED (
    SELECT unnest(@session_ids::uuid[]) AS session_id, unnest(@from_seqs::bigint[]) AS from_seq, unnest(@to_seqs::bigint[]) AS to_seq
)
SELECT m.session_id, m.read_seq, m.deleted_to_seq, m.marked_unread, (above.n <= (SELECT b.n FROM bound b))::boolean AS is_whole,
    coalesce(CASE WHEN above.n <= (SELECT b.n FROM bound b) THEN above.seqs ELSE near.seqs END, '{}')::bigint[] AS seqs,
    coalesce(CASE WHEN above.n <= (SELECT b.n FROM bound b) THEN above.reads ELSE near.reads END, '{}')::boolean[] AS reads,
    coalesce(CASE WHEN above.n <= (SELECT b.n FROM bound b) THEN above.deletes ELSE near.deletes END, '{}')::boolean[] AS deletes
FROM (SELECT DISTINCT a.session_id FROM asked a) q
CROSS JOIN LATERAL (
    SELECT * FROM user_to_session u WHERE u.user_id = @user_id AND u.session_id = q.session_id OFFSET 0) m
CROSS JOIN LATERAL (
    SELECT count(*) AS n, array_agg(l.seq_id ORDER BY l.seq_id) AS seqs, array_agg(l.is_read ORDER BY l.seq_id) AS reads,
        array_agg(l.is_delete ORDER BY l.seq_id) AS deletes
    FROM (SELECT e.seq_id, e.is_read, e.is_delete FROM msg_state e
        WHERE e.user_id = @user_id AND e.session_id = m.session_id AND e.seq_id > m.deleted_to_seq
            AND (e.is_delete OR e.seq_id > m.read_seq)
        ORDER BY e.seq_id LIMIT (SELECT b.n + 1 FROM bound b)) l) above
CROSS JOIN LATERAL (
    SELECT array_agg(x.seq_id ORDER BY x.seq_id) AS seqs, array_agg(x.is_read ORDER BY x.seq_id) AS reads,
        array_agg(x.is_delete ORDER BY x.seq_id) AS deletes
    FROM asked a CROSS JOIN LATERAL (
        SELECT e.seq_id, e.is_read, e.is_delete FROM msg_state e
        WHERE e.user_id = @user_id AND e.session_id = a.session_id AND e.seq_id > a.from_seq AND e.seq_id <= a.to_seq OFFSET 0) x
    WHERE a.session_id = m.session_id AND above.n > (SELECT b.n FROM bound b)) near
ORDER BY m.session_id;

-- name: StateEntries :many
-- Entries of one session within ranges (from, to], ascending, each with what decides a user's state of it. Cursors and
-- exceptions come from one snapshot: taken apart, an exception that the watermark absorbs in between would be missed.
-- OFFSET 0 keeps the planner from joining otherwise than range by range: left alone it reads the whole log.
SELECT g.seq_id, g.msg_id, (g.user_id = m.user_id)::boolean AS own, (g.type <= 3 AND NOT g.is_delete)::boolean AS countable,
    coalesce(st.is_read, false)::boolean AS is_read, coalesce(st.is_delete, false)::boolean AS is_delete,
    m.read_seq, m.deleted_to_seq
FROM user_to_session m
CROSS JOIN (SELECT unnest(@from_seqs::bigint[]) AS from_seq, unnest(@to_seqs::bigint[]) AS to_seq) q
CROSS JOIN LATERAL (
    SELECT e.seq_id, e.msg_id, e.user_id, e.type, e.is_delete FROM msg e
    WHERE e.session_id = @session_id AND e.seq_id > q.from_seq AND e.seq_id <= q.to_seq OFFSET 0) g
LEFT JOIN LATERAL (
    SELECT x.is_read, x.is_delete FROM msg_state x
    WHERE x.user_id = @user_id AND x.session_id = @session_id AND x.seq_id = g.seq_id OFFSET 0) st ON true
WHERE m.user_id = @user_id AND m.session_id = @session_id
ORDER BY g.seq_id;

-- name: StateReaders :one
-- Who of the members has read an entry: by watermark, or else by an exception. The sender is no reader, and neither is
-- a member who cannot see the entry, however high their watermark. One pass over the members (at most 10,000) and the
-- entry's exceptions gives the count and the page after a user id. OFFSET 0 keeps the planner, which takes every session
-- for one of the average size, from going over all members for each exception.
WITH entry AS (
    SELECT g.user_id FROM msg g WHERE g.session_id = @session_id AND g.seq_id = @seq
), reader AS MATERIALIZED (
    SELECT m.user_id AS reader_id FROM user_to_session m
    WHERE m.session_id = @session_id AND m.left_seq IS NULL AND m.read_seq >= @seq
        AND (m.visible_seq <= @seq OR m.earlier @> @seq::bigint)
        AND m.user_id <> (SELECT user_id FROM entry)
    UNION ALL
    SELECT st.user_id AS reader_id FROM msg_state st
    CROSS JOIN LATERAL (
        SELECT 1 FROM user_to_session m
        WHERE m.user_id = st.user_id AND m.session_id = @session_id AND m.left_seq IS NULL AND m.read_seq < @seq
            AND (m.visible_seq <= @seq OR m.earlier @> @seq::bigint) OFFSET 0) member
    WHERE st.session_id = @session_id AND st.seq_id = @seq AND st.is_read
        AND st.user_id <> (SELECT user_id FROM entry)
)
SELECT (SELECT count(*) FROM reader)::bigint AS total,
    ARRAY(SELECT reader_id FROM reader WHERE reader_id > @after_user::text ORDER BY reader_id LIMIT @max_users::integer)::text[] AS user_ids;
