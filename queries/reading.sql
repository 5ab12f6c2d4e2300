-- Read positions as others are told them.

-- name: ReadAudience :many
-- Of read positions, by their place from 1: the active members who may know them. The session has at most max_members, the
-- reader is one of them, and neither has blocked the other.
SELECT w.place::integer AS place, m.user_id
FROM unnest(@user_ids::text[]) WITH ORDINALITY AS w (reader, place)
JOIN user_to_session own ON own.user_id = w.reader AND own.session_id = (@session_ids::uuid[])[w.place] AND own.left_seq IS NULL
JOIN session s ON s.session_id = own.session_id AND s.member_count <= @max_members::integer
JOIN user_to_session m ON m.session_id = s.session_id AND m.left_seq IS NULL AND m.user_id <> w.reader
WHERE NOT EXISTS (SELECT FROM user_to_user b WHERE b.kind = 3
    AND ((b.user_id = w.reader AND b.peer_id = m.user_id) OR (b.user_id = m.user_id AND b.peer_id = w.reader)));
