-- Entries $3 to $4 of each of $2 sessions. $1 prefix, $5 content.
INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
SELECT md5($1::text || '-s' || n)::uuid, seq, gen_random_uuid(), $1::text || '-u0', 'd0', 1, $5::bytea, 0, seq, now()
FROM generate_series(0, $2::bigint - 1) n, generate_series($3::bigint, $4::bigint) seq
