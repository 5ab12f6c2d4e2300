-- Webhooks: their settings, the reader that turns what committed into deliveries, and the deliveries.

-- name: WebhookCreate :exec
INSERT INTO webhook (webhook_id, url, description, event_types, moderation_failure, moderation_timeout_ms, secret, created_at, updated_at)
VALUES (@webhook_id, @url, @description, @event_types::smallint[], @moderation_failure, @moderation_timeout_ms, @secret, @now, @now);

-- name: WebhookList :many
SELECT * FROM webhook ORDER BY created_at, webhook_id;

-- name: WebhookGetLocked :one
SELECT * FROM webhook WHERE webhook_id = @webhook_id FOR UPDATE;

-- name: WebhookSave :exec
UPDATE webhook SET url = @url, description = @description, event_types = @event_types::smallint[], is_enabled = @is_enabled,
    disabled_reason = @disabled_reason, moderation_failure = @moderation_failure,
    moderation_timeout_ms = @moderation_timeout_ms, secret = @secret, old_secret = @old_secret,
    old_secret_until = @old_secret_until, updated_at = @updated_at
WHERE webhook_id = @webhook_id;

-- name: WebhookDelete :execrows
DELETE FROM webhook WHERE webhook_id = @webhook_id;

-- name: WebhookCountWaiting :one
-- How many deliveries of a webhook wait, counted up to at_most.
SELECT count(*)::integer FROM (SELECT FROM webhook_delivery d WHERE d.webhook_id = @webhook_id AND d.state = 1 LIMIT @at_most::integer) w;

-- name: WebhookReaderGet :one
SELECT generation, (snapshot IS NOT NULL)::boolean AS active FROM webhook_reader;

-- name: WebhookReaderChanged :exec
-- Counts a change of webhooks, starts the reader where somebody is to be told from now on, and ends it where nobody is.
-- What the present snapshot does not see is told.
UPDATE webhook_reader r SET generation = r.generation + 1,
    snapshot = CASE WHEN w.wanted THEN coalesce(r.snapshot, pg_current_snapshot()::text) END, read_at = now()
FROM (SELECT EXISTS (SELECT FROM webhook x WHERE x.is_enabled AND x.event_types && '{1,2,3,4,5,6}'::smallint[]) AS wanted) w;

-- name: WebhookSessionsForget :exec
-- A reader that starts takes every session from its next commit on.
DELETE FROM webhook_session WHERE NOT EXISTS (SELECT FROM webhook_reader r WHERE r.snapshot IS NOT NULL);

-- name: WebhookReaderLock :many
-- Where the reader is; none while another node reads, or nobody is to be told.
SELECT r.snapshot::text AS snapshot, (now() - r.read_at > make_interval(secs => @bound_seconds::double precision))::boolean AS late
FROM webhook_reader r WHERE r.snapshot IS NOT NULL FOR UPDATE SKIP LOCKED;

-- name: WebhookLanesExclusive :exec
-- Keeps lanes from being given up as empty until the transaction ends.
SELECT pg_advisory_xact_lock(x'7061726c6579686b'::bigint);

-- name: WebhookLanesShared :exec
SELECT pg_advisory_xact_lock_shared(x'7061726c6579686b'::bigint);

-- name: WebhookReaderMoved :exec
UPDATE webhook_reader SET snapshot = @snapshot::text, read_at = now();

-- name: WebhookQueueEntries :many
-- Turns what committed between two snapshots into deliveries and returns the lanes that got some. A session that was told
-- before goes on from there. Another one begins with the first commit of the span, whose entries are those right below its
-- head that have its time: a group commit has one time, a change one entry.
WITH webhooks AS MATERIALIZED (
    SELECT w.webhook_id, w.event_types FROM webhook w WHERE w.is_enabled AND w.event_types && '{1,2,3,4,6}'::smallint[]
), moved AS MATERIALIZED (
    SELECT u.session_id, min(u.head) AS first_head, max(u.head) AS head
    FROM commit_log c CROSS JOIN LATERAL ROWS FROM (unnest(c.session_ids), unnest(c.heads)) AS u (session_id, head)
    WHERE c.xid >= pg_snapshot_xmin(CAST(CAST(@since AS text) AS pg_snapshot))
        AND NOT pg_visible_in_snapshot(c.xid, CAST(CAST(@since AS text) AS pg_snapshot))
        AND pg_visible_in_snapshot(c.xid, CAST(CAST(@until AS text) AS pg_snapshot))
    GROUP BY u.session_id
), spans AS MATERIALIZED (
    SELECT m.session_id, m.head, coalesce(
        (SELECT t.seq_id FROM webhook_session t WHERE t.session_id = m.session_id),
        -- Below the run: the entry before the first one of the commit.
        (SELECT g.seq_id FROM msg g WHERE g.session_id = m.session_id AND g.seq_id < m.first_head
            AND g.created_at <> (SELECT h.created_at FROM msg h WHERE h.session_id = m.session_id AND h.seq_id = m.first_head)
            ORDER BY g.seq_id DESC LIMIT 1),
        0) AS above
    FROM moved m
), told AS (
    INSERT INTO webhook_session AS t (session_id, seq_id, told_at)
    SELECT s.session_id, s.head, @now::timestamptz FROM spans s
    ON CONFLICT (session_id) DO UPDATE SET seq_id = greatest(t.seq_id, excluded.seq_id), told_at = excluded.told_at
), happened AS (
    SELECT g.session_id, g.seq_id, k.event_type
    FROM spans s
    JOIN msg g ON g.session_id = s.session_id AND g.seq_id > s.above AND g.seq_id <= s.head
    CROSS JOIN LATERAL (
        SELECT (CASE WHEN g.type <= 3 THEN 1 ELSE g.type - 2 END)::smallint AS event_type
        UNION ALL SELECT 6::smallint WHERE g.type <= 3) k
), queued AS (
    INSERT INTO webhook_delivery (delivery_id, webhook_id, lane, position, event_type, session_id, seq_id, queued_at, due_at)
    SELECT md5(concat_ws('|', @epoch::text, o.webhook_id, o.event_type, o.session_id, o.seq_id))::uuid, o.webhook_id,
        o.session_id, nextval('webhook_position'), o.event_type, o.session_id, o.seq_id, @now, @now
    FROM (SELECT h.*, w.webhook_id FROM happened h JOIN webhooks w ON h.event_type = ANY (w.event_types)
        ORDER BY h.session_id, h.seq_id, h.event_type OFFSET 0) o -- positions are given out in this order
    ON CONFLICT (delivery_id) DO NOTHING
    RETURNING webhook_id, lane
)
SELECT webhook_id, lane, count(*) AS deliveries FROM queued GROUP BY webhook_id, lane;

-- name: WebhookQueueRelations :many
-- The same for relations between users. What they are is told as of now; several changes at once are told as one.
WITH webhooks AS MATERIALIZED (
    SELECT w.webhook_id FROM webhook w WHERE w.is_enabled AND 5 = ANY (w.event_types)
), changed AS (
    SELECT c.user_id, c.other_id, max(c.id) AS id FROM relation_change c
    WHERE c.kind = 2 AND c.xid >= pg_snapshot_xmin(CAST(CAST(@since AS text) AS pg_snapshot))
        AND NOT pg_visible_in_snapshot(c.xid, CAST(CAST(@since AS text) AS pg_snapshot))
        AND pg_visible_in_snapshot(c.xid, CAST(CAST(@until AS text) AS pg_snapshot))
    GROUP BY c.user_id, c.other_id
), queued AS (
    INSERT INTO webhook_delivery (delivery_id, webhook_id, lane, position, event_type, user_ids, relation, queued_at, due_at)
    SELECT md5(concat_ws('|', @epoch::text, w.webhook_id, 5, c.id))::uuid, w.webhook_id, md5('relations|' || c.user_id)::uuid,
        nextval('webhook_position'), 5, ARRAY[c.user_id, c.other_id],
        coalesce((SELECT r.kind FROM user_to_user r WHERE r.user_id = c.user_id AND r.peer_id = c.other_id), 0), @now::timestamptz, @now
    FROM (SELECT * FROM changed ORDER BY id OFFSET 0) c CROSS JOIN webhooks w
    ON CONFLICT (delivery_id) DO NOTHING
    RETURNING webhook_id, lane
)
SELECT webhook_id, lane, count(*) AS deliveries FROM queued GROUP BY webhook_id, lane;

-- name: WebhookLanesWaiting :many
-- The lanes of a webhook in which something waits, those after a lane, in order.
SELECT DISTINCT d.lane FROM webhook_delivery d
WHERE d.webhook_id = @webhook_id AND d.state = 1 AND d.lane > @after_lane ORDER BY d.lane LIMIT @max_lanes::integer;

-- name: WebhookSettle :exec
-- Notes an attempt and what comes of the delivery.
WITH settled AS (
    UPDATE webhook_delivery d SET state = @state, attempts = d.attempts + 1, tries = d.tries + 1, due_at = @due_at
    WHERE d.delivery_id = @delivery_id AND d.state = 1
    RETURNING d.delivery_id, d.tries
)
INSERT INTO webhook_attempt (delivery_id, number, at, status, error, millis)
SELECT s.delivery_id, s.tries, @at, @status, @error, @millis FROM settled s;

-- name: WebhookNeedless :exec
UPDATE webhook_delivery SET state = 4 WHERE delivery_id = @delivery_id AND state = 1;

-- name: WebhookPart :exec
-- Puts a part of an audience beside the offline message that it was made of.
INSERT INTO webhook_delivery (delivery_id, webhook_id, lane, position, chunk, event_type, session_id, seq_id, user_ids, queued_at, due_at)
SELECT md5(concat_ws('|', d.delivery_id, @chunk::integer))::uuid, d.webhook_id, d.lane, d.position, @chunk::integer, d.event_type,
    d.session_id, d.seq_id, @user_ids::text[], d.queued_at, d.due_at
FROM webhook_delivery d WHERE d.delivery_id = @delivery_id
ON CONFLICT (delivery_id) DO NOTHING;

-- name: WebhookAudience :many
-- The members with user_id > after_user in byte order who are to be notified of an entry: others than its sender, who can
-- see it, have not read it, and have not muted notifications.
SELECT m.user_id FROM user_to_session m
JOIN session s ON s.session_id = m.session_id
JOIN app_user a ON a.user_id = m.user_id AND a.deactivated_at IS NULL
WHERE m.session_id = @session_id AND m.left_seq IS NULL AND m.user_id > @after_user::text AND m.user_id <> @sender_id::text
    AND m.joined_seq <= @seq::bigint AND m.read_seq < @seq::bigint AND m.deleted_to_seq < @seq::bigint
    AND NOT m.notifications_muted
    AND NOT EXISTS (SELECT FROM user_to_user b WHERE b.user_id = m.user_id AND b.peer_id = @sender_id::text AND b.kind = 3)
ORDER BY m.user_id LIMIT @max_users::integer;

-- name: WebhookAudienceStill :many
-- Those of the users who are still to be notified, with their devices that have a push target.
SELECT u.user_id::text AS user_id, coalesce(d.device_id, '')::text AS device_id, coalesce(d.platform, 0)::smallint AS platform,
    coalesce(d.push_target, '')::text AS push_target
FROM (SELECT unnest(@user_ids::text[]) AS user_id) u
JOIN user_to_session m ON m.user_id = u.user_id AND m.session_id = @session_id AND m.left_seq IS NULL
    AND m.read_seq < @seq::bigint AND m.deleted_to_seq < @seq::bigint AND NOT m.notifications_muted
JOIN app_user a ON a.user_id = u.user_id AND a.deactivated_at IS NULL
LEFT JOIN user_to_device d ON d.user_id = u.user_id AND d.revoked_at IS NULL AND d.push_target <> ''
ORDER BY u.user_id, d.device_id;

-- name: WebhookDeliveryList :many
-- Deliveries of a webhook before a place in its log, newest first. state 0 means all.
SELECT * FROM webhook_delivery d
WHERE d.webhook_id = @webhook_id AND (d.position, d.chunk) < (@before_position::bigint, @before_chunk::integer)
    AND (@state::smallint = 0 OR d.state = @state::smallint)
ORDER BY d.position DESC, d.chunk DESC LIMIT @max_deliveries::integer;

-- name: WebhookAttemptList :many
SELECT a.* FROM (SELECT unnest(@delivery_ids::uuid[]) AS delivery_id) q
CROSS JOIN LATERAL (
    SELECT * FROM webhook_attempt x WHERE x.delivery_id = q.delivery_id ORDER BY x.number DESC LIMIT 20) a
ORDER BY a.delivery_id, a.number DESC;

-- name: WebhookReplay :many
-- Makes deliveries wait again.
UPDATE webhook_delivery d SET state = 1, attempts = 0, due_at = @now
WHERE d.webhook_id = @webhook_id AND d.delivery_id = ANY (@delivery_ids::uuid[])
RETURNING d.lane;

-- name: WebhookGivenUp :many
SELECT delivery_id FROM webhook_delivery WHERE webhook_id = @webhook_id AND state = 3 ORDER BY position, chunk LIMIT @at_most::integer;

-- name: WebhookTrimDeliveries :execrows
-- Some of what is past its time, and of what deleted webhooks left.
DELETE FROM webhook_delivery x WHERE x.delivery_id IN (
    SELECT d.delivery_id FROM webhook_delivery d WHERE d.state <> 1 AND d.queued_at < @before LIMIT @at_most::integer);

-- name: WebhookTrimOrphans :execrows
-- Goes from one webhook of the deliveries to the next by the index: there are few, and many deliveries of each.
WITH RECURSIVE owners AS (
    (SELECT d.webhook_id FROM webhook_delivery d ORDER BY d.webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.webhook_id FROM webhook_delivery d WHERE d.webhook_id > o.webhook_id ORDER BY d.webhook_id LIMIT 1)
    FROM owners o WHERE o.webhook_id IS NOT NULL
)
DELETE FROM webhook_delivery x WHERE x.delivery_id IN (
    SELECT d.delivery_id FROM owners o
    CROSS JOIN LATERAL (SELECT y.delivery_id FROM webhook_delivery y WHERE y.webhook_id = o.webhook_id LIMIT @at_most::integer) d
    WHERE NOT EXISTS (SELECT FROM webhook w WHERE w.webhook_id = o.webhook_id) LIMIT @at_most::integer);

-- name: WebhookTrimSessions :execrows
DELETE FROM webhook_session x WHERE x.session_id IN (
    SELECT t.session_id FROM webhook_session t WHERE t.told_at < @before LIMIT @at_most::integer);

-- name: DraftStandings :many
-- What a sender's drafts are before they are committed, in their order: whether the id was committed before, and the sender's
-- part in the session as MembershipGet tells it. A direct session without entries is not there yet: reach is then what stands
-- between the sender and peer, who may not exist.
SELECT EXISTS (SELECT FROM msg x WHERE x.session_id = q.session_id AND x.msg_id = q.msg_id AND x.user_id = @user_id) AS is_known,
    (s.session_id IS NOT NULL)::boolean AS is_there, (m.user_id IS NOT NULL)::boolean AS was_member,
    (m.user_id IS NOT NULL AND m.left_seq IS NULL)::boolean AS is_member, coalesce(s.kind, 1)::smallint AS kind,
    coalesce(m.role, 0)::smallint AS role, coalesce(m.is_muted, false)::boolean AS is_muted, coalesce(s.send_role, 0)::smallint AS send_role,
    (CASE
        WHEN o.peer = '' THEN 0
        WHEN EXISTS (SELECT FROM user_to_user b WHERE b.user_id = @user_id AND b.peer_id = o.peer AND b.kind = 3) THEN 1
        WHEN EXISTS (SELECT FROM user_to_user b WHERE b.user_id = o.peer AND b.peer_id = @user_id AND b.kind = 3) THEN 2
        WHEN NOT EXISTS (SELECT FROM app_user a WHERE a.user_id = o.peer AND a.deactivated_at IS NULL) THEN 2
        ELSE 0 END)::smallint AS reach
FROM (SELECT unnest(@session_ids::uuid[]) AS session_id, unnest(@msg_ids::uuid[]) AS msg_id, unnest(@peers::text[]) AS peer,
    generate_subscripts(@session_ids::uuid[], 1) AS n) q
LEFT JOIN session s ON s.session_id = q.session_id AND (s.kind = 2 OR s.last_seq > 0)
LEFT JOIN user_to_session m ON m.user_id = @user_id AND m.session_id = s.session_id
CROSS JOIN LATERAL (SELECT CASE WHEN s.session_id IS NULL THEN q.peer WHEN s.kind <> 1 THEN ''
    WHEN s.direct_low = @user_id THEN s.direct_high ELSE s.direct_low END AS peer) o
ORDER BY q.n;

-- name: WebhookPatience :exec
-- For a transaction that may have much to do: longer than the pool's connections have it.
SELECT set_config('statement_timeout', '55s', true);

-- name: WebhookSnapshot :one
SELECT pg_current_snapshot()::text AS snapshot;

-- name: WebhookRemove :exec
DELETE FROM webhook_delivery WHERE delivery_id = @delivery_id;

-- name: WebhookCount :one
SELECT count(*) FROM webhook;

-- name: WebhookNext :many
-- The delivery that a lane waits for, with its webhook; none where the webhook is disabled or gone.
SELECT sqlc.embed(d), sqlc.embed(w) FROM webhook w
JOIN webhook_delivery d ON d.webhook_id = w.webhook_id AND d.lane = @lane AND d.state = 1
WHERE w.webhook_id = @webhook_id AND w.is_enabled
ORDER BY d.position, d.chunk LIMIT 1;
