-- Making direct sessions within the bound on the sessions of a user, which so far held for groups only.

-- +goose Up

-- Makes the direct sessions that a batch is first to use, with both memberships: session_ids[i] of lows[i] and highs[i], each
-- session once, those first that matter most where a user cannot have them all. Sessions that are there already are passed
-- over, and a pair that may not talk (one of them unknown, deactivated or blocked by the other) gets none.
--
-- low_full[i] and high_full[i] say who of a pair that may talk was in most sessions or more; then the session is not made.
-- They are false for all other pairs: how many sessions somebody is in is not looked at for those who may not talk to them.
--
-- The rows of all users who are to get a session are locked, in byte order of their ids as wherever two users are locked,
-- until the transaction ends. So nobody else makes a session of theirs between counting and making. The lock is waited for in
-- a statement before that which counts: the latter sees what others committed meanwhile (READ COMMITTED). A batch whose
-- sessions are all there locks and counts nothing.
--
-- Joins are nested loops, and each look-up is one by key, for the reasons given at parley_append.
-- +goose StatementBegin
CREATE FUNCTION parley_make_direct(session_ids uuid[], lows text[], highs text[], made_at timestamptz, most integer,
    OUT low_full boolean[], OUT high_full boolean[]) RETURNS record
LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    wanted integer[] := ARRAY(SELECT generate_series(1, cardinality(session_ids)));
    places integer[]; -- of the users of wanted[k] among all of them: places[2k-1] and places[2k]
    rooms  integer[]; -- how many sessions each of them may still get
    made   integer[] := '{}';
BEGIN
    low_full := array_fill(false, ARRAY[cardinality(session_ids)]);
    high_full := low_full;
    FOR pass IN 1 .. 2 LOOP
        SELECT array_agg(w.i ORDER BY w.k) INTO wanted FROM (
            SELECT k, wanted[k] AS i FROM generate_series(1, cardinality(wanted)) AS k
        ) w
        CROSS JOIN LATERAL (SELECT FROM app_user x
            WHERE x.user_id = lows[w.i] AND x.deactivated_at IS NULL LIMIT 1) a
        CROSS JOIN LATERAL (SELECT FROM app_user x
            WHERE x.user_id = highs[w.i] AND x.deactivated_at IS NULL LIMIT 1) b
        LEFT JOIN LATERAL (SELECT 1 AS yes FROM session x WHERE x.session_id = session_ids[w.i] LIMIT 1) s ON true
        LEFT JOIN LATERAL (SELECT 1 AS yes FROM user_to_user x
            WHERE x.user_id = lows[w.i] AND x.peer_id = highs[w.i] AND x.kind = 3 LIMIT 1) r ON true
        LEFT JOIN LATERAL (SELECT 1 AS yes FROM user_to_user x
            WHERE x.user_id = highs[w.i] AND x.peer_id = lows[w.i] AND x.kind = 3 LIMIT 1) q ON true
        WHERE s.yes IS NULL AND r.yes IS NULL AND q.yes IS NULL;
        IF wanted IS NULL THEN
            RETURN;
        END IF;
        IF pass = 1 THEN
            PERFORM FROM app_user u
                WHERE u.user_id = ANY (ARRAY(SELECT unnest(ARRAY[lows[w.i], highs[w.i]]) FROM unnest(wanted) AS w (i)))
                ORDER BY u.user_id FOR NO KEY UPDATE;
        END IF;
    END LOOP;

    WITH named AS (
        SELECT 2 * k + side AS n, CASE side WHEN -1 THEN lows[wanted[k]] ELSE highs[wanted[k]] END COLLATE "C" AS user_id
        FROM generate_series(1, cardinality(wanted)) AS k, generate_series(-1, 0) AS side
    )
    SELECT (SELECT array_agg(p.place ORDER BY p.n) FROM (SELECT n, dense_rank() OVER (ORDER BY user_id) AS place FROM named) p),
        array_agg(most - c.sessions ORDER BY u.user_id)
    INTO places, rooms
    FROM (SELECT DISTINCT user_id FROM named) u
    CROSS JOIN LATERAL (SELECT count(*)::integer AS sessions FROM (
        SELECT FROM user_to_session m WHERE m.user_id = u.user_id AND m.left_seq IS NULL LIMIT most) l) c;

    FOR k IN 1 .. cardinality(wanted) LOOP
        low_full[wanted[k]] := rooms[places[2 * k - 1]] <= 0;
        high_full[wanted[k]] := rooms[places[2 * k]] <= 0;
        IF NOT low_full[wanted[k]] AND NOT high_full[wanted[k]] THEN
            made := made || wanted[k];
            rooms[places[2 * k - 1]] := rooms[places[2 * k - 1]] - 1;
            rooms[places[2 * k]] := rooms[places[2 * k]] - 1;
        END IF;
    END LOOP;

    -- A node of the version before this one makes sessions without the locks: what it made is passed over.
    WITH new AS (
        INSERT INTO session (session_id, kind, owner_id, direct_low, direct_high, member_count, created_at)
        SELECT session_ids[w.i], 1, lows[w.i], lows[w.i], highs[w.i], 2, made_at FROM unnest(made) AS w (i)
        ORDER BY session_ids[w.i]
        ON CONFLICT (session_id) DO NOTHING
        RETURNING session_id, direct_low, direct_high
    )
    INSERT INTO user_to_session (user_id, session_id, role, joined_seq, visible_seq)
    SELECT u.user_id, n.session_id, 1, 1, 1
    FROM new n CROSS JOIN LATERAL (VALUES (n.direct_low), (n.direct_high)) AS u (user_id);
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION parley_make_direct(uuid[], text[], text[], timestamptz, integer);
