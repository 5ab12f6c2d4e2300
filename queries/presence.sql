-- Presence.

-- name: PresenceVisible :many
-- Of users, those whose presence a viewer may see: themself, friends, and who is in a session with them now, unless either
-- has blocked the other; with when they were last seen
-- (1970: never). OFFSET 0 keeps the planner from reading all friends and sessions of the viewer, or of everybody.
SELECT u.user_id, coalesce((SELECT max(d.last_seen_at) FROM user_to_device d WHERE d.user_id = u.user_id), 'epoch')::timestamptz AS last_seen_at
FROM app_user u
WHERE u.user_id = ANY(@user_ids::text[]) AND u.deactivated_at IS NULL AND (u.user_id = @viewer OR (
    (EXISTS (SELECT FROM user_to_user f WHERE f.user_id = @viewer AND f.peer_id = u.user_id AND f.kind = 1 OFFSET 0)
        OR EXISTS (SELECT FROM user_to_session mine
            CROSS JOIN LATERAL (SELECT FROM user_to_session theirs WHERE theirs.user_id = u.user_id
                AND theirs.session_id = mine.session_id AND theirs.left_seq IS NULL OFFSET 0) shared
            WHERE mine.user_id = @viewer AND mine.left_seq IS NULL OFFSET 0))
    AND NOT EXISTS (SELECT FROM user_to_user b WHERE b.kind = 3
        AND ((b.user_id = @viewer AND b.peer_id = u.user_id) OR (b.user_id = u.user_id AND b.peer_id = @viewer)))))
ORDER BY u.user_id;
