-- What a device that comes back has not seen, of all its sessions, in one query.
SELECT m.session_id, m.seq_id, m.msg_id, m.user_id, m.device_id, m.type, m.content, m.is_delete, m.created_at
FROM ROWS FROM (unnest($1::uuid[]), unnest($2::bigint[]), unnest($3::bigint[])) AS r (session_id, from_seq, to_seq)
JOIN msg m ON m.session_id = r.session_id AND m.seq_id > r.from_seq AND m.seq_id <= r.to_seq
ORDER BY m.session_id, m.seq_id
