-- The log: appending and reading back.

-- name: SessionMakeDirect :one
-- Makes the direct sessions that a batch is first to use: parley_make_direct of the schema says what goes in and out. One row.
SELECT d.low_full::boolean[] AS low_full, d.high_full::boolean[] AS high_full
FROM parley_make_direct(@session_ids::uuid[], @lows::text[], @highs::text[], @now::timestamptz, @most::integer) AS d;

-- name: SessionDropUnused :exec
-- Takes those of the direct sessions that SessionMakeDirect made just now, at the same time, back which took no message:
-- a refused send leaves nothing. Nobody else has seen them.
WITH unused AS (
    DELETE FROM session WHERE session_id = ANY (@session_ids::uuid[]) AND kind = 1 AND last_seq = 0
        AND created_at = @now::timestamptz
    RETURNING session_id
)
DELETE FROM user_to_session m USING unused u WHERE m.session_id = u.session_id;

-- name: MessageAppendBatch :one
-- The batch append: parley_append of the schema says what goes in and out. One row.
-- Where all was refused (no verdict is 0 or 1) the commit waits for no disk: nothing is lost with it, and how long the answer
-- takes would else tell whoever is refused whether there is such a session, whose row was locked. Not in parley_append, which
-- also runs in the app's own transactions.
SELECT a.verdicts::integer[] AS verdicts, a.seqs::bigint[] AS seqs, a.created_ats::timestamptz[] AS created_ats,
    (CASE WHEN a.verdicts && '{0,1}' THEN '' ELSE set_config('synchronous_commit', 'off', true) END)::text AS relaxed
FROM parley_append(@session_ids::uuid[], @counts::integer[], @user_ids::text[], @device_ids::text[], @slots::integer[],
    @nths::integer[], @senders::integer[], @lasts::integer[], @msg_ids::uuid[], @types::smallint[], @contents::bytea[],
    @digests::bigint[], @replies::bigint[], @peers::text[], @appended_at::timestamptz) AS a;

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
-- Entries of several ranges (session, from, to], one range (ord, from 1) after the other, ascending by seq within each, at
-- most max_entries of each range. Those without content are recalled.
SELECT q.ord::integer AS ord, m.seq_id, m.msg_id, m.user_id, m.device_id, m.type, m.content, m.created_at
FROM (SELECT generate_subscripts(@session_ids::uuid[], 1) AS ord, unnest(@session_ids::uuid[]) AS session_id,
        unnest(@from_seqs::bigint[]) AS from_seq, unnest(@to_seqs::bigint[]) AS to_seq) q
CROSS JOIN LATERAL (
    SELECT g.seq_id, g.msg_id, g.user_id, g.device_id, g.type, g.content, g.created_at
    FROM msg g WHERE g.session_id = q.session_id AND g.seq_id > q.from_seq AND g.seq_id <= q.to_seq
    ORDER BY g.seq_id LIMIT @max_entries::integer) m
ORDER BY q.ord, m.seq_id;
