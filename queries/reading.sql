-- Read positions as others are told them.

-- name: ReadAudience :many
-- Of read positions, by their place from 1: the active members who may know them. The session has at most max_members, the
-- reader is one of them, and neither has blocked the other. OFFSET 0 makes it look-ups by key.
SELECT w.place::integer AS place, m.user_id
FROM unnest(@user_ids::text[]) WITH ORDINALITY AS w (reader, place)
CROSS JOIN LATERAL (SELECT o.session_id FROM user_to_session o
    WHERE o.user_id = w.reader AND o.session_id = (@session_ids::uuid[])[w.place] AND o.left_seq IS NULL OFFSET 0) own
CROSS JOIN LATERAL (SELECT s.session_id FROM session s
    WHERE s.session_id = own.session_id AND s.member_count <= @max_members::integer OFFSET 0) small
CROSS JOIN LATERAL (SELECT x.user_id FROM user_to_session x
    WHERE x.session_id = small.session_id AND x.left_seq IS NULL AND x.user_id <> w.reader OFFSET 0) m
WHERE NOT EXISTS (SELECT FROM user_to_user b WHERE b.kind = 3
    AND ((b.user_id = w.reader AND b.peer_id = m.user_id) OR (b.user_id = m.user_id AND b.peer_id = w.reader)));
