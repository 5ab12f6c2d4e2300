-- parley_append with the same arguments, rules and answers; only how its updates find their rows is new.
--
-- LIMIT keeps the planner from joining a look-up in another way, but an update's own table knows no LIMIT. So plans made while
-- the statistics told of a handful of rows scanned all of session and user_to_session, were kept, and with 64,000 memberships
-- a batch of 256 took longer than the statement timeout of 15 s. The planner can scan a whole index here only because it
-- considers merging by its order, for which it needs an equality of two columns. Now there is none: a key is asked for by ANY
-- of an array of one (a key's second column by BETWEEN: of two ANYs the planner may leave one to a filter), and what only
-- makes sure that a place is still the right one says IS TRUE. What is left is a look-up by key or place at every size, in
-- the order of the slots. Sequential scans are off here too, for callers whose connection does not say so; bitmap scans
-- because they would lock in the order of the heap.

-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION parley_append(session_ids uuid[], counts integer[], user_ids text[], device_ids text[], slots integer[],
    nths integer[], senders integer[], lasts integer[], msg_ids uuid[], types smallint[], contents bytea[], digests bigint[],
    replies bigint[], peers text[], appended_at timestamptz,
    OUT verdicts integer[], OUT seqs bigint[], OUT created_ats timestamptz[]) RETURNS record
LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    items       integer := cardinality(slots);
    found_slots integer[];
    kinds       smallint[];
    roles       smallint[];
    lows        text[];
    highs       text[];
    heads       bigint[]; -- before the batch, as totals
    totals      bigint[];
    moved       uuid[];   -- the sessions that got an entry, and their new heads
    new_heads   bigint[];
    sent_users  text[];   -- who sent where
    sent_sessions uuid[];
    barred      integer[];
    tids        tid[];     -- where each item's membership is
    peer_verdicts integer[]; -- NULL where no session is a direct one
    places      integer[];
    refused     bigint;
    in_place    bigint := 0;
BEGIN
    -- Locks the sessions, in the order of the slots, and takes seqs for all items at once. Those of items that do not pass
    -- are given back below.
    WITH bumped AS (
        UPDATE session s SET last_seq = s.last_seq + counts[w.slot], countable_total = s.countable_total + counts[w.slot]
        FROM generate_series(1, cardinality(session_ids)) AS w (slot)
        WHERE s.session_id = ANY (ARRAY[session_ids[w.slot]])
        RETURNING w.slot, s.session_id, s.kind, s.send_role, s.direct_low, s.direct_high, s.last_seq, s.countable_total
    )
    SELECT array_agg(b.slot), array_agg(b.session_id), array_agg(b.kind), array_agg(b.send_role), array_agg(b.direct_low),
        array_agg(b.direct_high), array_agg(b.last_seq - counts[b.slot]), array_agg(b.countable_total - counts[b.slot]),
        array_agg(b.last_seq)
    INTO found_slots, moved, kinds, roles, lows, highs, heads, totals, new_heads
    FROM (SELECT * FROM bumped ORDER BY slot) b;

    IF coalesce(cardinality(found_slots), 0) < cardinality(session_ids) THEN
        -- Some are not there: slots become places among those found, NULL for the others.
        places := array_fill(NULL::integer, ARRAY[cardinality(session_ids)]);
        FOR k IN 1 .. coalesce(cardinality(found_slots), 0) LOOP
            places[found_slots[k]] := k;
        END LOOP;
        slots := ARRAY(SELECT places[slots[i]] FROM generate_series(1, items) AS i ORDER BY i);
    END IF;

    SELECT array_agg(p.barred) INTO barred FROM (
        SELECT CASE
                WHEN u.user_id IS NULL OR u.deactivated_at IS NOT NULL THEN 9
                WHEN device_ids[k] <> '' AND (d.user_id IS NULL OR d.revoked_at IS NOT NULL) THEN 8
                ELSE 0
            END AS barred
        FROM generate_series(1, cardinality(user_ids)) AS k
        LEFT JOIN LATERAL (SELECT x.user_id, x.deactivated_at FROM app_user x WHERE x.user_id = user_ids[k] LIMIT 1) u ON true
        LEFT JOIN LATERAL (SELECT x.user_id, x.revoked_at FROM user_to_device x
            WHERE x.user_id = user_ids[k] AND x.device_id = device_ids[k] LIMIT 1) d ON true
        ORDER BY k) p;

    IF places IS NOT NULL OR 1 = ANY (kinds) THEN
        -- What stands between the sender and the other user of a direct session, or of one that could not be made.
        SELECT array_agg(p.verdict) INTO peer_verdicts FROM (
            SELECT CASE
                    WHEN o.peer = '' THEN 0
                    WHEN EXISTS (SELECT FROM user_to_user b
                        WHERE b.user_id = user_ids[senders[i]] AND b.peer_id = o.peer AND b.kind = 3) THEN 7
                    WHEN EXISTS (SELECT FROM user_to_user b
                        WHERE b.user_id = o.peer AND b.peer_id = user_ids[senders[i]] AND b.kind = 3) THEN 6
                    WHEN EXISTS (SELECT FROM app_user u WHERE u.user_id = o.peer AND u.deactivated_at IS NOT NULL) THEN 6
                    ELSE 0
                END AS verdict
            FROM generate_series(1, items) AS i
            CROSS JOIN LATERAL (SELECT CASE
                    WHEN slots[i] IS NULL THEN peers[i]
                    WHEN kinds[slots[i]] <> 1 THEN ''
                    WHEN lows[slots[i]] = user_ids[senders[i]] THEN highs[slots[i]]
                    ELSE lows[slots[i]] END AS peer) o
            ORDER BY i) p;
    END IF;

    SELECT array_agg(j.verdict), array_agg(j.seq), array_agg(j.created_at), array_agg(j.place),
        count(*) FILTER (WHERE j.verdict <> 0)
    INTO verdicts, seqs, created_ats, tids, refused
    FROM (
        SELECT CASE
                WHEN old.digest = digests[i] THEN 1
                WHEN old.seq_id IS NOT NULL THEN 2
                WHEN slots[i] IS NULL AND peers[i] <> '' THEN CASE WHEN peer_verdicts[i] = 7 THEN 7 ELSE 6 END
                -- A direct session whose first message was refused is there without an entry: for all others it is not.
                WHEN heads[slots[i]] = 0 AND kinds[slots[i]] = 1 AND peers[i] = '' THEN 3
                WHEN slots[i] IS NULL OR m.role IS NULL OR m.left_seq IS NOT NULL THEN 3
                WHEN barred[senders[i]] <> 0 THEN barred[senders[i]]
                WHEN m.is_muted THEN 4
                WHEN m.role < roles[slots[i]] THEN 5
                WHEN peer_verdicts[i] <> 0 THEN peer_verdicts[i]
                WHEN replies[i] > 0 AND (replies[i] > heads[slots[i]]
                    OR NOT (replies[i] >= m.visible_seq OR m.earlier @> replies[i])) THEN 10
                ELSE 0
            END AS verdict, coalesce(old.seq_id, heads[slots[i]] + nths[i]) AS seq,
            coalesce(old.created_at, appended_at) AS created_at, m.place
        FROM generate_series(1, items) AS i
        LEFT JOIN LATERAL (SELECT x.ctid AS place, x.role, x.left_seq, x.is_muted, x.visible_seq, x.earlier FROM user_to_session x
            WHERE x.user_id = user_ids[senders[i]] AND x.session_id = moved[slots[i]] LIMIT 1) m ON true
        LEFT JOIN LATERAL (SELECT x.seq_id, x.digest, x.created_at FROM msg x WHERE x.session_id = moved[slots[i]]
            AND x.msg_id = msg_ids[i] AND x.user_id = user_ids[senders[i]] LIMIT 1) old ON true
        ORDER BY i) j;

    IF refused > 0 THEN
        UPDATE session s SET last_seq = s.last_seq - r.n, countable_total = s.countable_total - r.n
        FROM (SELECT slots[i] AS slot, count(*) AS n FROM generate_series(1, items) AS i
            WHERE verdicts[i] <> 0 AND slots[i] IS NOT NULL GROUP BY slots[i] ORDER BY slots[i]) r
        WHERE s.session_id = ANY (ARRAY[moved[r.slot]]);
        SELECT array_agg(g.seq) INTO seqs FROM (
            SELECT CASE verdicts[i]
                WHEN 0 THEN heads[slots[i]] + row_number() OVER (PARTITION BY verdicts[i], slots[i] ORDER BY i)
                WHEN 1 THEN seqs[i] ELSE 0 END AS seq
            FROM generate_series(1, items) AS i ORDER BY i) g;
        IF refused = items THEN
            RETURN;
        END IF;
    END IF;

    INSERT INTO msg (session_id, seq_id, msg_id, user_id, device_id, type, content, digest, countable_no, created_at)
    SELECT moved[slots[i]], seqs[i], msg_ids[i], user_ids[senders[i]], device_ids[senders[i]], types[i], contents[i],
        digests[i], totals[slots[i]] + seqs[i] - heads[slots[i]], appended_at
    FROM generate_series(1, items) AS i WHERE verdicts[i] = 0;

    -- Sending means having read up to there. The memberships are where they were found a moment ago, which spares another
    -- look-up, unless somebody else (a mark, a setting) has just moved one or a user sent from two devices: then all are
    -- looked up.
    IF refused = 0 THEN
        UPDATE user_to_session m SET read_seq = seqs[own.i], marked_unread = false
        FROM (SELECT lasts[k] AS i FROM generate_series(1, cardinality(lasts)) AS k) own
        WHERE m.ctid = tids[own.i] AND (m.user_id = user_ids[senders[own.i]]) IS TRUE
            AND (m.session_id = moved[slots[own.i]]) IS TRUE AND m.read_seq < seqs[own.i];
        GET DIAGNOSTICS in_place = ROW_COUNT;
    END IF;
    IF in_place < cardinality(lasts) THEN
        UPDATE user_to_session m SET read_seq = own.seq, marked_unread = false
        FROM (SELECT slots[i] AS slot, user_ids[senders[i]] AS user_id, max(seqs[i]) AS seq
            FROM generate_series(1, items) AS i WHERE verdicts[i] = 0 GROUP BY 1, 2) own
        WHERE m.user_id = ANY (ARRAY[own.user_id]) AND m.session_id BETWEEN moved[own.slot] AND moved[own.slot]
            AND m.read_seq < own.seq;
    END IF;

    IF refused = 0 THEN
        SELECT array_agg(user_ids[senders[lasts[k]]]), array_agg(moved[slots[lasts[k]]]) INTO sent_users, sent_sessions
        FROM generate_series(1, cardinality(lasts)) AS k;
    ELSE
        SELECT array_agg(user_ids[own.sender]), array_agg(moved[own.slot]) INTO sent_users, sent_sessions
        FROM (SELECT DISTINCT senders[i] AS sender, slots[i] AS slot
            FROM generate_series(1, items) AS i WHERE verdicts[i] = 0) own;
        SELECT array_agg(moved[g.slot]), array_agg(g.seq) INTO moved, new_heads
        FROM (SELECT slots[i] AS slot, max(seqs[i]) AS seq FROM generate_series(1, items) AS i
            WHERE verdicts[i] = 0 GROUP BY slots[i]) g;
    END IF;
    INSERT INTO commit_log (session_ids, heads, sent_users, sent_sessions)
        VALUES (moved, new_heads, sent_users, sent_sessions);
END
$$;
-- +goose StatementEnd

-- +goose Down
-- Nothing to take back: the function as it was before answers the same, and nodes of both versions call this one.
