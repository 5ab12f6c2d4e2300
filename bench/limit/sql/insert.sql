-- A batch of rows as the server's append writes them.
INSERT INTO parley_bench.msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
SELECT unnest($1::uuid[]), unnest($2::bigint[]), unnest($3::uuid[]), unnest($4::text[]), unnest($5::text[]), 1,
    unnest($6::bytea[]), unnest($7::bigint[]), unnest($2::bigint[]), $8::timestamptz
