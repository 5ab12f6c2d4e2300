-- The feed: what has committed since a snapshot. All three run in one REPEATABLE READ transaction, whose snapshot is the
-- next poll's starting point. Snapshot difference misses no row, however long a transaction stayed open: a row belongs to
-- it when the transaction that wrote it is visible now and was not then.

-- name: FeedSnapshot :one
SELECT pg_current_snapshot()::text AS snapshot, parley_epoch() AS epoch;

-- name: FeedEpoch :one
-- Asked by every new connection: the first one to a database that was promoted tells so before anything is committed there.
SELECT parley_epoch() AS epoch;

-- name: FeedCommits :many
SELECT id, session_ids, heads, state_users, state_sessions, sent_users, sent_sessions, recalls,
    stream_users, stream_devices, stream_numbers FROM commit_log
WHERE xid >= pg_snapshot_xmin(CAST(CAST(@since AS text) AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(xid, CAST(CAST(@since AS text) AS pg_snapshot))
ORDER BY id;

-- name: FeedRelations :many
SELECT kind, user_id, other_id FROM relation_change
WHERE xid >= pg_snapshot_xmin(CAST(CAST(@since AS text) AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(xid, CAST(CAST(@since AS text) AS pg_snapshot))
ORDER BY id;

-- name: FeedRecalls :many
-- Sessions in which something was recalled lately: what a node that starts makes caches forget, since the one that
-- recalled may have died before it did so.
SELECT DISTINCT unnest(recalls)::uuid AS session_id FROM commit_log WHERE recalls <> '{}';

-- name: FeedTrimCommits :execrows
-- Rows of transactions that had ended before the given snapshot.
-- Not what the webhooks' reader has yet to read, unless it has not read for a day.
DELETE FROM commit_log WHERE xid < pg_snapshot_xmin(CAST(CAST(@until AS text) AS pg_snapshot))
    AND xid < ALL (SELECT pg_snapshot_xmin(CAST(r.snapshot AS pg_snapshot)) FROM webhook_reader r
        WHERE r.snapshot IS NOT NULL AND r.read_at > now() - interval '24 hours');

-- name: FeedTrimRelations :execrows
DELETE FROM relation_change WHERE xid < pg_snapshot_xmin(CAST(CAST(@until AS text) AS pg_snapshot))
    AND xid < ALL (SELECT pg_snapshot_xmin(CAST(r.snapshot AS pg_snapshot)) FROM webhook_reader r
        WHERE r.snapshot IS NOT NULL AND r.read_at > now() - interval '24 hours');
