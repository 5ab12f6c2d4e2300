-- Friends, requests and blocks. What two users are to each other changes only while both their rows of app_user are
-- locked: that of who acts by UserLock, that of the other by UserLockShared, in byte order of their ids. So changes of one
-- pair run one after another, as do all changes by one user, while many may ask one popular user at the same time.

-- name: RelationPair :many
-- Both directions between two users, as far as there are any.
SELECT user_id, kind, updated_at FROM user_to_user
WHERE (user_id = @user_id AND peer_id = @peer_id) OR (user_id = @peer_id AND peer_id = @user_id);

-- name: RelationCount :one
-- How many rows of these kinds a user has.
SELECT count(*) FROM user_to_user WHERE user_id = @user_id AND kind = ANY (@kinds::smallint[]);

-- name: RelationPut :exec
INSERT INTO user_to_user (user_id, peer_id, kind, updated_at) VALUES (@user_id, @peer_id, @kind, @updated_at)
ON CONFLICT (user_id, peer_id) DO UPDATE SET kind = excluded.kind, updated_at = excluded.updated_at;

-- name: RelationDelete :exec
DELETE FROM user_to_user WHERE user_id = @user_id AND peer_id = @peer_id;

-- name: RelationNote :exec
-- Tells other nodes that user_id sees peer_id differently although no row of user_id's own changed, as when a request
-- was received or withdrawn. Changes of own rows are noted by a trigger.
INSERT INTO relation_change (kind, user_id, other_id) VALUES (2, @user_id, @peer_id);

-- name: RelationList :many
-- Whom a user has relations with, after a user id, in byte order: rows of the user's own of these kinds, and, where asked
-- for, requests received. kind 4 stands for the latter; it is not one of user_to_user.
SELECT l.other_id::text AS other_id, l.kind::smallint AS kind, l.updated_at::timestamptz AS updated_at
FROM (
    (SELECT o.peer_id AS other_id, o.kind, o.updated_at FROM user_to_user o
        WHERE o.user_id = @user_id AND o.peer_id > @after_user AND o.kind = ANY (@kinds::smallint[])
        ORDER BY o.peer_id LIMIT @max_rows::integer)
    UNION ALL
    (SELECT r.user_id AS other_id, 4 AS kind, r.updated_at FROM user_to_user r
        WHERE @received::boolean AND r.peer_id = @user_id AND r.kind = 2 AND r.user_id > @after_user
            AND NOT EXISTS (SELECT FROM user_to_user o WHERE o.user_id = @user_id AND o.peer_id = r.user_id)
        ORDER BY r.user_id LIMIT @max_rows::integer)
) l
ORDER BY l.other_id LIMIT @max_rows::integer;

-- name: RelationViews :many
-- Both directions of many pairs of a user and a peer, by the pair's place in the lists; 0 where there is none.
-- No equality of two columns, which keeps it look-ups by key: decision 20.
SELECT q.ord::integer AS ord, coalesce(o.kind, 0)::smallint AS own, coalesce(p.kind, 0)::smallint AS other,
    o.updated_at AS own_at, p.updated_at AS other_at
FROM (SELECT generate_subscripts(@user_ids::text[], 1) AS ord, unnest(@user_ids::text[]) AS user_id,
        unnest(@peer_ids::text[]) AS peer_id) q
LEFT JOIN user_to_user o ON o.user_id = ANY (ARRAY[q.user_id]) AND o.peer_id BETWEEN q.peer_id AND q.peer_id
LEFT JOIN user_to_user p ON p.user_id = ANY (ARRAY[q.peer_id]) AND p.peer_id BETWEEN q.user_id AND q.user_id
ORDER BY q.ord;
