-- Sending from inside the app's own transaction: parley_send and parley_send_text (docs/sql.md). The rules are those of
-- SendMessage, and so are body and digest to the last bit: the same message_id sent both ways is one message.

-- +goose Up

-- The encoding of a number as protobuf's varint. Negative numbers are none that Parley encodes: they have none.
-- +goose StatementBegin
CREATE FUNCTION parley_varint(n bigint) RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    out bytea := '';
BEGIN
    IF n < 0 THEN
        RAISE EXCEPTION 'INVALID_FIELD' USING ERRCODE = 'PY001', DETAIL = 'A number is negative.';
    END IF;
    WHILE n >= 128 LOOP
        out := out || set_byte('\x00', 0, (128 | (n & 127))::integer);
        n := n >> 7;
    END LOOP;
    RETURN out || set_byte('\x00', 0, n::integer);
END
$$;
-- +goose StatementEnd

-- A field of bytes, text or a message, with its number (1 to 15) and length before it.
-- +goose StatementBegin
CREATE FUNCTION parley_field(number integer, value bytea) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT set_byte('\x00', 0, number << 3 | 2) || parley_varint(octet_length(value)) || value
$$;
-- +goose StatementEnd

-- The fields of an encoded message whose numbers are below 16: of bytes (kind 2: value) or numbers (kind 0: number).
-- Refuses what Parley's own encoder would not write: numbers out of order or repeated, zero and empty values unless
-- keep_empty, other kinds of fields, lengths past the end.
-- +goose StatementBegin
CREATE FUNCTION parley_fields(message bytea, keep_empty boolean, OUT field integer, OUT kind integer, OUT value bytea, OUT number bigint)
RETURNS SETOF record LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    size  integer := octet_length(message);
    at    integer := 0;
    tag   integer;
    last  integer := 0;
    b     integer;
    shift integer;
BEGIN
    WHILE at < size LOOP
        tag := get_byte(message, at);
        field := tag >> 3;
        kind := tag & 7;
        at := at + 1;
        number := 0;
        shift := 0;
        LOOP
            IF at >= size OR shift > 56 THEN
                RAISE EXCEPTION 'INVALID_FIELD' USING ERRCODE = 'PY001', DETAIL = 'The content is cut off.';
            END IF;
            b := get_byte(message, at);
            number := number | ((b & 127)::bigint << shift);
            shift := shift + 7;
            at := at + 1;
            EXIT WHEN b < 128;
        END LOOP;
        IF tag > 127 OR field <= last OR kind NOT IN (0, 2) OR shift > 7 AND b = 0 OR number = 0 AND NOT (keep_empty AND kind = 2)
            OR kind = 2 AND number > size - at THEN
            RAISE EXCEPTION 'INVALID_FIELD' USING ERRCODE = 'PY001', DETAIL = 'The content is not in the one encoding that is taken.';
        END IF;
        last := field;
        value := NULL;
        IF kind = 2 THEN
            value := substring(message FROM at + 1 FOR number::integer);
            at := at + number::integer;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- Whether bytes are UTF-8 without zero bytes, which PostgreSQL's text cannot hold, of at least lo and at most hi bytes.
-- +goose StatementBegin
CREATE FUNCTION parley_is_text(value bytea, lo integer, hi integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN octet_length(value) BETWEEN lo AND hi AND convert_from(value, 'UTF8') IS NOT NULL;
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN false;
END
$$;
-- +goose StatementEnd

-- The type of an encoded parley.v1.Content: 1 text, 2 attachment, 3 custom. Refuses what SendMessage would refuse, but for
-- the form of an attachment's URL, of which it asks a scheme only.
-- +goose StatementBegin
CREATE FUNCTION parley_content_type(content bytea) RETURNS smallint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    kind  smallint;
    r     record;
    b     bytea[] := array_fill(''::bytea, ARRAY[15]); -- values of the body's fields, by number
    kinds text := '';                                  -- field:kind of each field there is
    ok    boolean;
BEGIN
    FOR r IN SELECT * FROM parley_fields(content, true) LOOP
        IF kind IS NOT NULL OR r.kind <> 2 OR r.field > 3 THEN
            RAISE EXCEPTION 'INVALID_FIELD' USING ERRCODE = 'PY001', DETAIL = 'Only text, attachment and custom can be sent.';
        END IF;
        kind := r.field;
        content := r.value;
    END LOOP;
    IF kind IS NULL THEN
        RAISE EXCEPTION 'INVALID_FIELD' USING ERRCODE = 'PY001', DETAIL = 'Only text, attachment and custom can be sent.';
    END IF;
    FOR r IN SELECT * FROM parley_fields(content, false) LOOP
        kinds := kinds || r.field || ':' || r.kind || ' ';
        IF r.kind = 2 THEN
            b[r.field] := r.value;
        ELSIF r.field IN (6, 7) AND r.number > 2147483647 THEN
            kinds := 'too large';
        END IF;
    END LOOP;
    CASE kind
        WHEN 1 THEN ok := kinds = '1:2 ' AND parley_is_text(b[1], 1, 16384);
        WHEN 2 THEN ok := kinds ~ '^1:2 2:2 (3:2 )?(4:0 )?(5:2 )?(6:0 )?(7:0 )?(8:0 )?$'
            AND parley_is_text(b[1], 1, 2048) AND convert_from(b[1], 'UTF8') ~ '^[A-Za-z][A-Za-z0-9+.-]*:[^[:space:]]+$'
            AND parley_is_text(b[2], 1, 127) AND parley_is_text(b[3], 0, 255) AND parley_is_text(b[5], 0, 4096);
        ELSE ok := kinds ~ '^1:2 (2:2 )?$' AND parley_is_text(b[1], 1, 255) AND octet_length(b[2]) <= 16384;
    END CASE;
    IF NOT ok THEN
        RAISE EXCEPTION 'INVALID_FIELD' USING ERRCODE = 'PY001', DETAIL = 'The content breaks a rule of parley.v1.Content.';
    END IF;
    RETURN kind;
END
$$;
-- +goose StatementEnd

-- One message by the batch append. A device of '' is the app itself, which needs no row of its own.
-- +goose StatementBegin
CREATE FUNCTION parley_append_one(sid uuid, sender text, device text, mid uuid, kind smallint, body bytea, body_digest bigint,
    reply bigint, now timestamptz, OUT verdict integer, OUT seq bigint, OUT created_at timestamptz)
LANGUAGE sql AS $$
    SELECT a.verdicts[1], a.seqs[1], a.created_ats[1] FROM parley_append(ARRAY[sid], ARRAY[1], ARRAY[sender], ARRAY[device],
        ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[1], ARRAY[mid], ARRAY[kind], ARRAY[body], ARRAY[body_digest], ARRAY[reply], ARRAY[''], now) a
$$;
-- +goose StatementEnd

-- Sends a message of any kind in the caller's transaction: what it returns holds once that commits. content is an encoded
-- parley.v1.Content (text, attachment or custom); device_id '' means that the app itself sends for the user. Repeated with
-- the same msg_id and body it returns the first answer. Raises what SendMessage refuses: the message is the reason as in
-- parley.v1.ErrorReason, the SQLSTATE is PY0nn.
-- +goose StatementBegin
CREATE FUNCTION parley_send(session_id uuid, user_id text, device_id text, msg_id uuid, content bytea,
    reply_to_seq bigint DEFAULT 0, mentions text[] DEFAULT '{}', OUT seq bigint, OUT created_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    kind    smallint;
    body    bytea;
    digest  bigint;
    verdict integer;
    mention text;
BEGIN
    -- Under the others the look at the log could be older than the lock on it.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'parley_send needs a transaction that is READ COMMITTED' USING ERRCODE = 'PY000';
    END IF;
    IF session_id IS NULL OR user_id IS NULL OR msg_id IS NULL OR content IS NULL OR coalesce(reply_to_seq, 0) < 0
        OR cardinality(mentions) > 50 OR array_position(mentions, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'INVALID_FIELD' USING ERRCODE = 'PY001', DETAIL = 'An argument is missing or out of its bounds.';
    END IF;
    kind := parley_content_type(content);
    body := parley_field(7, content);
    IF reply_to_seq > 0 THEN
        body := body || '\x50' || parley_varint(reply_to_seq);
    END IF;
    FOREACH mention IN ARRAY coalesce(mentions, '{}') LOOP
        IF octet_length(mention) NOT BETWEEN 1 AND 64 THEN
            RAISE EXCEPTION 'INVALID_FIELD' USING ERRCODE = 'PY001', DETAIL = 'A mention is no user id.';
        END IF;
        body := body || parley_field(11, convert_to(mention, 'UTF8'));
    END LOOP;
    digest := ('x' || encode(substring(sha256(set_byte('\x00', 0, kind::integer) || body) FROM 1 FOR 8), 'hex'))::bit(64)::bigint;
    IF digest = 0 THEN
        digest := 1;
    END IF;
    SELECT a.verdict, a.seq, a.created_at INTO verdict, seq, created_at
        FROM parley_append_one(session_id, user_id, coalesce(device_id, ''), msg_id, kind, body, digest,
            coalesce(reply_to_seq, 0), clock_timestamp()) a;
    CASE verdict
        WHEN 0, 1 THEN RETURN;
        WHEN 2 THEN RAISE EXCEPTION 'MESSAGE_ID_REUSED' USING ERRCODE = 'PY002';
        WHEN 3 THEN RAISE EXCEPTION 'SESSION_UNAVAILABLE' USING ERRCODE = 'PY003';
        WHEN 4 THEN RAISE EXCEPTION 'MUTED' USING ERRCODE = 'PY004';
        WHEN 5 THEN RAISE EXCEPTION 'ROLE_TOO_LOW' USING ERRCODE = 'PY005';
        WHEN 6 THEN RAISE EXCEPTION 'RECIPIENT_UNAVAILABLE' USING ERRCODE = 'PY006';
        WHEN 7 THEN RAISE EXCEPTION 'RECIPIENT_BLOCKED_BY_YOU' USING ERRCODE = 'PY007';
        WHEN 8 THEN RAISE EXCEPTION 'DEVICE_REVOKED' USING ERRCODE = 'PY008';
        WHEN 9 THEN RAISE EXCEPTION 'USER_DEACTIVATED' USING ERRCODE = 'PY009';
        WHEN 10 THEN RAISE EXCEPTION 'MESSAGE_UNAVAILABLE' USING ERRCODE = 'PY010';
    END CASE;
END
$$;
-- +goose StatementEnd

-- parley_send for a text of 1 byte to 16 KiB.
-- +goose StatementBegin
CREATE FUNCTION parley_send_text(session_id uuid, user_id text, device_id text, msg_id uuid, body text,
    reply_to_seq bigint DEFAULT 0, mentions text[] DEFAULT '{}', OUT seq bigint, OUT created_at timestamptz)
LANGUAGE sql SECURITY DEFINER AS $$
    SELECT s.seq, s.created_at FROM parley_send($1, $2, $3, $4,
        parley_field(1, parley_field(1, convert_to($5, 'UTF8'))), $6, $7) s
$$;
-- +goose StatementEnd

-- Who may call them may send in every user's name: nobody but the owner, until told otherwise. They run as the owner, so
-- their names are looked up where they were made and nowhere else.
-- +goose StatementBegin
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOREACH f IN ARRAY ARRAY[
        'parley_send(uuid, text, text, uuid, bytea, bigint, text[])'::regprocedure,
        'parley_send_text(uuid, text, text, uuid, text, bigint, text[])'::regprocedure] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', f, current_schema());
    END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION parley_send_text(uuid, text, text, uuid, text, bigint, text[]);
DROP FUNCTION parley_send(uuid, text, text, uuid, bytea, bigint, text[]);
DROP FUNCTION parley_append_one(uuid, text, text, uuid, smallint, bytea, bigint, bigint, timestamptz);
DROP FUNCTION parley_content_type(bytea);
DROP FUNCTION parley_is_text(bytea, integer, integer);
DROP FUNCTION parley_fields(bytea, boolean);
DROP FUNCTION parley_field(integer, bytea);
DROP FUNCTION parley_varint(bigint);
