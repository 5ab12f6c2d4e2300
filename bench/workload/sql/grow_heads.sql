-- The heads of the loaded sessions. $1 prefix, $2 sessions, $3 head.
UPDATE session SET last_seq = $3::bigint, countable_total = $3::bigint
FROM generate_series(0, $2::bigint - 1) n WHERE session_id = md5($1::text || '-s' || n)::uuid
