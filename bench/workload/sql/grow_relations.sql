-- Users, devices, sessions and memberships, as if they had come over the API: user n is <prefix>-u<n>, session n has the
-- md5 of <prefix>-s<n> as its id. $1 prefix, $2 sessions, $3 users, $4 members of each session.
SET LOCAL session_replication_role = replica;
INSERT INTO app_user (user_id, created_at) SELECT $1::text || '-u' || n, now() FROM generate_series(0, $3::bigint - 1) n;
INSERT INTO user_to_device (user_id, device_id, created_at)
SELECT $1::text || '-u' || n, 'd0', now() FROM generate_series(0, $3::bigint - 1) n;
INSERT INTO session (session_id, kind, owner_id, title, member_count, last_seq, countable_total, created_at)
SELECT md5($1::text || '-s' || n)::uuid, 2, $1::text || '-u' || (n * $4::bigint) % $3::bigint, 'grown', $4::bigint, 0, 0, now()
FROM generate_series(0, $2::bigint - 1) n;
INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
SELECT $1::text || '-u' || (n * $4::bigint + k) % $3::bigint, md5($1::text || '-s' || n)::uuid, CASE k WHEN 0 THEN 3 ELSE 1 END, 1, 1
FROM generate_series(0, $2::bigint - 1) n, generate_series(0, $4::bigint - 1) k
