-- The whole schema of Parley's first version. Every hot table's key starts with session_id or user_id, so that the
-- schema can be distributed by it unchanged; for the same reason no foreign key crosses from one to the other.

-- +goose Up

-- A user of the app. The id is the app's own and opaque; "C" collation: ids are bytes, not words.
CREATE TABLE app_user (
    user_id        text COLLATE "C" PRIMARY KEY CHECK (octet_length(user_id) BETWEEN 1 AND 64),
    display_name   text        NOT NULL DEFAULT '',
    avatar_url     text        NOT NULL DEFAULT '',
    deactivated_at timestamptz,
    created_at     timestamptz NOT NULL
);

-- One row per direction: 1 friend, 2 requested (user_id asked peer_id), 3 blocked (user_id blocked peer_id).
CREATE TABLE user_to_user (
    user_id    text COLLATE "C" NOT NULL REFERENCES app_user,
    peer_id    text COLLATE "C" NOT NULL REFERENCES app_user,
    kind       smallint         NOT NULL CHECK (kind BETWEEN 1 AND 3),
    updated_at timestamptz      NOT NULL,
    PRIMARY KEY (user_id, peer_id),
    CHECK (user_id <> peer_id)
);
-- Serves the list of requests that a user received.
CREATE INDEX user_to_user_received ON user_to_user (peer_id, user_id) WHERE kind = 2;

CREATE TABLE user_to_device (
    user_id      text COLLATE "C" NOT NULL REFERENCES app_user,
    device_id    text COLLATE "C" NOT NULL CHECK (octet_length(device_id) BETWEEN 1 AND 64),
    platform     smallint         NOT NULL DEFAULT 0,
    push_target  text             NOT NULL DEFAULT '',
    display_name text             NOT NULL DEFAULT '',
    created_at   timestamptz      NOT NULL,
    last_seen_at timestamptz,
    -- When the device first took its sessions over; before that it roams (starts at each session's last entries).
    synced_at    timestamptz,
    revoked_at   timestamptz,
    PRIMARY KEY (user_id, device_id)
);

-- A conversation. last_seq is the head of its log. A low fill factor keeps the update of every send a HOT one.
CREATE TABLE session (
    session_id      uuid PRIMARY KEY,
    kind            smallint    NOT NULL CHECK (kind IN (1, 2)),
    owner_id        text COLLATE "C" NOT NULL,
    -- The two users of a direct session in byte order; NULL for groups.
    direct_low      text COLLATE "C",
    direct_high     text COLLATE "C",
    title           text        NOT NULL DEFAULT '',
    avatar_url      text        NOT NULL DEFAULT '',
    history_visible boolean     NOT NULL DEFAULT false,
    send_role       smallint    NOT NULL DEFAULT 1 CHECK (send_role BETWEEN 1 AND 3),
    member_count    integer     NOT NULL DEFAULT 0 CHECK (member_count >= 0),
    last_seq        bigint      NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    -- How many entries of the log count as unread for those who have not read them.
    countable_total bigint      NOT NULL DEFAULT 0 CHECK (countable_total BETWEEN 0 AND last_seq),
    created_at      timestamptz NOT NULL,
    CHECK ((kind = 1) = (direct_low IS NOT NULL AND direct_high IS NOT NULL AND direct_low < direct_high))
) WITH (fillfactor = 70);

-- A user's part in a session, kept after leaving for what can still be seen. Visible are the ranges of earlier, and
-- [visible_seq, left_seq], open-ended while left_seq is NULL.
CREATE TABLE user_to_session (
    user_id             text COLLATE "C" NOT NULL REFERENCES app_user,
    session_id          uuid             NOT NULL,
    role                smallint         NOT NULL CHECK (role BETWEEN 1 AND 3),
    joined_seq          bigint           NOT NULL CHECK (joined_seq >= 1),
    visible_seq         bigint           NOT NULL CHECK (visible_seq BETWEEN 1 AND joined_seq),
    left_seq            bigint           CHECK (left_seq >= joined_seq),
    earlier             int8multirange   NOT NULL DEFAULT '{}',
    read_seq            bigint           NOT NULL DEFAULT 0 CHECK (read_seq >= 0),
    deleted_to_seq      bigint           NOT NULL DEFAULT 0 CHECK (deleted_to_seq >= 0),
    marked_unread       boolean          NOT NULL DEFAULT false,
    is_muted            boolean          NOT NULL DEFAULT false,
    notifications_muted boolean          NOT NULL DEFAULT false,
    is_pinned           boolean          NOT NULL DEFAULT false,
    is_archived         boolean          NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, session_id)
) WITH (fillfactor = 80);
-- Serves the member list, and who has read a message.
CREATE INDEX user_to_session_members ON user_to_session (session_id, user_id) WHERE left_seq IS NULL;

-- The log. content is an encoded parley.v1.Message with only content, reply_to_seq and mentions set, so that the row's
-- other columns, encoded, and content, joined, are the message on the wire. No foreign key to session: it would cost a
-- look-up and a lock per row, and the row of the session is locked by the only writer anyway.
CREATE TABLE msg (
    session_id   uuid             NOT NULL,
    seq_id       bigint           NOT NULL CHECK (seq_id >= 1),
    msg_id       uuid             NOT NULL,
    user_id      text COLLATE "C" NOT NULL,
    device_id    text COLLATE "C" NOT NULL,
    type         smallint         NOT NULL,
    content      bytea,
    -- First 8 bytes of SHA-256 over the body as sent: tells a repeated send from a reused id.
    digest       bigint           NOT NULL,
    -- How many of the log's entries up to and including this one count as unread.
    countable_no bigint           NOT NULL,
    is_delete    boolean          NOT NULL DEFAULT false,
    -- Seq of the entry that recalled this one.
    recall_seq   bigint,
    created_at   timestamptz      NOT NULL,
    PRIMARY KEY (session_id, seq_id),
    -- The idempotency key. With user_id, so that nobody can occupy another's ids.
    UNIQUE (session_id, msg_id, user_id),
    CHECK (is_delete = (content IS NULL)),
    CHECK (is_delete = (recall_seq IS NOT NULL))
);
-- Serves the unread formula: recalled entries above a watermark.
CREATE INDEX msg_recalled ON msg (session_id, seq_id) WHERE is_delete;

-- States that differ from the watermark: read out of order, deleted for oneself.
CREATE TABLE msg_state (
    user_id    text COLLATE "C" NOT NULL,
    session_id uuid             NOT NULL,
    seq_id     bigint           NOT NULL,
    msg_id     uuid             NOT NULL,
    is_read    boolean          NOT NULL,
    is_delete  boolean          NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, session_id, seq_id)
);
-- Serves "who has read message m": readers out of order.
CREATE INDEX msg_state_readers ON msg_state (session_id, seq_id, user_id) WHERE is_read;

-- Written behind: a lost tail only means that something is delivered again.
CREATE TABLE device_cursor (
    user_id    text COLLATE "C" NOT NULL,
    device_id  text COLLATE "C" NOT NULL,
    session_id uuid             NOT NULL,
    acked_seq  bigint           NOT NULL CHECK (acked_seq >= 0),
    PRIMARY KEY (user_id, device_id, session_id)
) WITH (fillfactor = 80);

-- The unread formula, the only one: countable entries (types 1 to 3) above the floor, less those recalled and those read
-- out of order. floor is greatest(joined_seq - 1, deleted_to_seq, read_seq). Own entries need no term: sending moves
-- read_seq to the own entry. Costs one look-up plus the exceptions above the floor, whatever the session's length.
-- +goose StatementBegin
CREATE FUNCTION parley_unread(viewer text, sid uuid, floor_seq bigint, countable_total bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT countable_total
        - coalesce((SELECT c.countable_no FROM msg c WHERE c.session_id = sid AND c.seq_id = floor_seq), 0)
        - (SELECT count(*) FROM msg r
            WHERE r.session_id = sid AND r.seq_id > floor_seq AND r.is_delete AND r.type <= 3)
        -- LATERAL with OFFSET keeps the planner on the primary keys: with skewed statistics it went over everybody's states.
        - (SELECT count(*) FROM msg_state st
            CROSS JOIN LATERAL (SELECT FROM msg g WHERE g.session_id = sid AND g.seq_id = st.seq_id
                AND NOT g.is_delete AND g.type <= 3 OFFSET 0) counted
            WHERE st.user_id = viewer AND st.session_id = sid AND st.seq_id > floor_seq AND st.is_read)
$$;
-- +goose StatementEnd

-- Identity of the log's life: the database system, its timeline, which a promotion or a restore to a point in time
-- changes, and which of the system's databases it is. The timeline is that of the write-ahead log being written, not of
-- the last checkpoint, which lags behind.
-- +goose StatementBegin
CREATE FUNCTION parley_epoch() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT s.system_identifier::text || '-' || CASE
        WHEN pg_is_in_recovery() THEN 'standby'
        ELSE ltrim(substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), '0') END || '-' || d.oid::text
    FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()
$$;
-- +goose StatementEnd

-- One row per committing transaction: which sessions moved, to which head, and whose states changed where. Read by
-- snapshot difference, which needs xid.
CREATE TABLE commit_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid            xid8        NOT NULL DEFAULT pg_current_xact_id(),
    session_ids    uuid[]      NOT NULL DEFAULT '{}',
    heads          bigint[]    NOT NULL DEFAULT '{}',
    state_users    text[]      NOT NULL DEFAULT '{}',
    state_sessions uuid[]      NOT NULL DEFAULT '{}',
    -- Who sent where: a send moves its sender's watermark, which caches of states must not keep.
    sent_users     text[]      NOT NULL DEFAULT '{}',
    sent_sessions  uuid[]      NOT NULL DEFAULT '{}',
    -- Sessions in which something was recalled: caches forget what they hold of them.
    recalls        uuid[]      NOT NULL DEFAULT '{}',
    -- Streams that began: a node ends its own stream of the device whose number is lower.
    stream_users   text[]      NOT NULL DEFAULT '{}',
    stream_devices text[]      NOT NULL DEFAULT '{}',
    stream_numbers bigint[]    NOT NULL DEFAULT '{}',
    CHECK (cardinality(session_ids) = cardinality(heads)),
    CHECK (cardinality(state_users) = cardinality(state_sessions)),
    CHECK (cardinality(sent_users) = cardinality(sent_sessions)),
    CHECK (cardinality(stream_users) = cardinality(stream_devices) AND cardinality(stream_users) = cardinality(stream_numbers))
);
CREATE INDEX commit_log_xid ON commit_log (xid);

-- Numbers the streams of all nodes: of a device's streams the one with the highest number is the newest. No cache: numbers
-- are given out in the order in which they are asked for, whoever asks.
CREATE SEQUENCE stream_number;

-- One group commit, called after what made its sessions in the same transaction: judges every item by itself under the
-- locks of the sessions, gives seqs to those that pass, and writes them. A function, because each of its statements has a
-- snapshot of its own (READ COMMITTED) and yet they pass arrays on without a round trip in between.
--
-- session_ids are the batch's sessions, each once, ascending: the order of the locks, so that two batches never wait for
-- each other crosswise. user_ids and device_ids are its senders, each pair once;
-- a device of '' is the app itself. Item i goes to session_ids[slots[i]], is
-- from sender senders[i] and is the nths[i]th of the counts[slots[i]] items of its session. lasts are the items after which
-- their sender has no other in their session. peers[i] is the other user where a direct session was asked for by user, else
-- ''. Items must not repeat a (session, msg_id, user) among themselves.
--
-- verdicts: 0 appended, 1 repeated (seqs and created_ats have the first answer), 2 id reused with another body, 3 no such
-- session or not a member, 4 muted, 5 role too low, 6 peer unavailable, 7 peer blocked by the sender, 8 device revoked,
-- 9 user deactivated, 10 reply_to_seq not visible.
--
-- Joins are nested loops, so that items keep their order: plans are made while the tables are small and kept as they grow.
-- LIMIT makes each look-up one by key, whatever the planner thinks of the tables' sizes. The updates are joined by key from
-- some 10 rows on; a plan made for fewer scans the table's index, until statistics of the grown table replace it.
-- +goose StatementBegin
CREATE FUNCTION parley_append(session_ids uuid[], counts integer[], user_ids text[], device_ids text[], slots integer[],
    nths integer[], senders integer[], lasts integer[], msg_ids uuid[], types smallint[], contents bytea[], digests bigint[],
    replies bigint[], peers text[], appended_at timestamptz,
    OUT verdicts integer[], OUT seqs bigint[], OUT created_ats timestamptz[]) RETURNS record
LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off AS $$
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
    -- Locks the sessions and takes seqs for all items at once. Those of items that do not pass are given back below.
    WITH bumped AS (
        UPDATE session s SET last_seq = s.last_seq + counts[w.slot], countable_total = s.countable_total + counts[w.slot]
        FROM generate_series(1, cardinality(session_ids)) AS w (slot)
        WHERE s.session_id = session_ids[w.slot]
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
        WHERE s.session_id = moved[r.slot];
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
        WHERE m.ctid = tids[own.i] AND m.user_id = user_ids[senders[own.i]] AND m.session_id = moved[slots[own.i]]
            AND m.read_seq < seqs[own.i];
        GET DIAGNOSTICS in_place = ROW_COUNT;
    END IF;
    IF in_place < cardinality(lasts) THEN
        UPDATE user_to_session m SET read_seq = own.seq, marked_unread = false
        FROM (SELECT slots[i] AS slot, user_ids[senders[i]] AS user_id, max(seqs[i]) AS seq
            FROM generate_series(1, items) AS i WHERE verdicts[i] = 0 GROUP BY 1, 2) own
        WHERE m.user_id = own.user_id AND m.session_id = moved[own.slot] AND m.read_seq < own.seq;
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

-- One row per change of a relation. kind: 1 user, 2 user_to_user, 3 user_to_device, 4 user_to_session; other_id is the
-- peer, the device or the session. Written by triggers, so that changes made by plain SQL are seen too.
CREATE TABLE relation_change (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid      xid8             NOT NULL DEFAULT pg_current_xact_id(),
    kind     smallint         NOT NULL CHECK (kind BETWEEN 1 AND 4),
    user_id  text COLLATE "C" NOT NULL,
    other_id text COLLATE "C" NOT NULL
);
CREATE INDEX relation_change_xid ON relation_change (xid);

-- +goose StatementBegin
CREATE FUNCTION parley_note_relation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    IF TG_OP = 'DELETE' THEN r := OLD; ELSE r := NEW; END IF;
    CASE TG_TABLE_NAME
        WHEN 'app_user' THEN
            INSERT INTO relation_change (kind, user_id, other_id) VALUES (1, r.user_id, '');
        WHEN 'user_to_user' THEN
            INSERT INTO relation_change (kind, user_id, other_id) VALUES (2, r.user_id, r.peer_id);
        WHEN 'user_to_device' THEN
            INSERT INTO relation_change (kind, user_id, other_id) VALUES (3, r.user_id, r.device_id);
        WHEN 'user_to_session' THEN
            INSERT INTO relation_change (kind, user_id, other_id) VALUES (4, r.user_id, r.session_id::text);
    END CASE;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER app_user_noted AFTER INSERT OR DELETE ON app_user
    FOR EACH ROW EXECUTE FUNCTION parley_note_relation();
CREATE TRIGGER app_user_changed AFTER UPDATE ON app_user
    FOR EACH ROW WHEN (OLD.deactivated_at IS DISTINCT FROM NEW.deactivated_at)
    EXECUTE FUNCTION parley_note_relation();
CREATE TRIGGER user_to_user_noted AFTER INSERT OR UPDATE OR DELETE ON user_to_user
    FOR EACH ROW EXECUTE FUNCTION parley_note_relation();
CREATE TRIGGER user_to_device_noted AFTER INSERT OR DELETE ON user_to_device
    FOR EACH ROW EXECUTE FUNCTION parley_note_relation();
CREATE TRIGGER user_to_device_changed AFTER UPDATE ON user_to_device
    FOR EACH ROW WHEN (OLD.revoked_at IS DISTINCT FROM NEW.revoked_at)
    EXECUTE FUNCTION parley_note_relation();
CREATE TRIGGER user_to_session_noted AFTER INSERT OR DELETE ON user_to_session
    FOR EACH ROW EXECUTE FUNCTION parley_note_relation();
-- Not for read_seq and the user's own settings. Naming the columns keeps a send's update of read_seq from asking row by row.
CREATE TRIGGER user_to_session_changed AFTER UPDATE OF left_seq, joined_seq, visible_seq, role, is_muted ON user_to_session
    FOR EACH ROW WHEN (OLD.left_seq IS DISTINCT FROM NEW.left_seq OR OLD.joined_seq <> NEW.joined_seq
        OR OLD.visible_seq <> NEW.visible_seq OR OLD.role <> NEW.role OR OLD.is_muted <> NEW.is_muted)
    EXECUTE FUNCTION parley_note_relation();

-- +goose Down
DROP TABLE relation_change, commit_log, device_cursor, msg_state, msg, user_to_session, session, user_to_device,
    user_to_user, app_user;
DROP SEQUENCE stream_number;
DROP FUNCTION parley_append(uuid[], integer[], text[], text[], integer[], integer[], integer[], integer[], uuid[],
    smallint[], bytea[], bigint[], bigint[], text[], timestamptz);
DROP FUNCTION parley_epoch();
DROP FUNCTION parley_note_relation();
DROP FUNCTION parley_unread(text, uuid, bigint, bigint);
