-- The relation map that every node keeps in memory (server/roster): whole tables as one snapshot has them, single rows
-- read again after they changed, and sums to compare both sides by.
--
-- A membership's traits are its role in the two low bits, 4 when it has ended, and 8 when it is muted.

-- name: RosterPrepare :exec
-- Makes the present transaction fit to read whole tables, which everywhere else is a mistake. Its bound is the caller's
-- context.
SELECT set_config('enable_seqscan', 'on', true), set_config('statement_timeout', '0', true);

-- name: RosterUsers :many
SELECT user_id, (deactivated_at IS NOT NULL)::boolean AS deactivated FROM app_user;

-- name: RosterRelations :many
SELECT user_id, peer_id, kind FROM user_to_user;

-- name: RosterDevices :many
SELECT user_id, device_id, (revoked_at IS NOT NULL)::boolean AS revoked FROM user_to_device;

-- name: RosterMemberships :many
SELECT user_id, session_id,
    (role + CASE WHEN left_seq IS NULL THEN 0 ELSE 4 END + CASE WHEN is_muted THEN 8 ELSE 0 END)::smallint AS traits
FROM user_to_session;

-- name: RosterUsersAgain :many
SELECT user_id, (deactivated_at IS NOT NULL)::boolean AS deactivated FROM app_user
WHERE user_id = ANY (@user_ids::text[]);

-- name: RosterRelationsAgain :many
-- OFFSET 0 makes this and what follows look-ups by key.
SELECT t.user_id, t.peer_id, t.kind
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@peer_ids::text[]) AS peer_id) q
CROSS JOIN LATERAL (SELECT x.user_id, x.peer_id, x.kind FROM user_to_user x
    WHERE x.user_id = q.user_id AND x.peer_id = q.peer_id OFFSET 0) t;

-- name: RosterDevicesAgain :many
SELECT t.user_id, t.device_id, (t.revoked_at IS NOT NULL)::boolean AS revoked
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@device_ids::text[]) AS device_id) q
CROSS JOIN LATERAL (SELECT x.user_id, x.device_id, x.revoked_at FROM user_to_device x
    WHERE x.user_id = q.user_id AND x.device_id = q.device_id OFFSET 0) t;

-- name: RosterMembershipsAgain :many
SELECT t.user_id, t.session_id,
    (t.role + CASE WHEN t.left_seq IS NULL THEN 0 ELSE 4 END + CASE WHEN t.is_muted THEN 8 ELSE 0 END)::smallint AS traits
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@session_ids::uuid[]) AS session_id) q
CROSS JOIN LATERAL (SELECT x.user_id, x.session_id, x.role, x.left_seq, x.is_muted FROM user_to_session x
    WHERE x.user_id = q.user_id AND x.session_id = q.session_id OFFSET 0) t;

-- name: RosterSums :many
-- Per table, by relation_change.kind, how many rows there are and the sum of their hashes: the first 8 bytes of SHA-256
-- over the ids, each after its length in bytes and a colon, and the rest of what the map holds of the row. A sum does not
-- depend on the order of rows; it is to be taken modulo 2^64.
SELECT h.kind::smallint AS kind, count(h.row) AS row_count,
    coalesce(sum(('x' || encode(substr(sha256(convert_to(h.row, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint), 0)::text AS sum
FROM (
    SELECT 1 AS kind, octet_length(user_id) || ':' || user_id
        || CASE WHEN deactivated_at IS NULL THEN '0' ELSE '1' END AS row
    FROM app_user
    UNION ALL
    SELECT 2, octet_length(user_id) || ':' || user_id || octet_length(peer_id) || ':' || peer_id || kind FROM user_to_user
    UNION ALL
    SELECT 3, octet_length(user_id) || ':' || user_id || octet_length(device_id) || ':' || device_id
        || CASE WHEN revoked_at IS NULL THEN '0' ELSE '1' END
    FROM user_to_device
    UNION ALL
    SELECT 4, octet_length(user_id) || ':' || user_id || octet_length(session_id::text) || ':' || session_id
        || (role + CASE WHEN left_seq IS NULL THEN 0 ELSE 4 END + CASE WHEN is_muted THEN 8 ELSE 0 END)
    FROM user_to_session
) h
GROUP BY h.kind;
