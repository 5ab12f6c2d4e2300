-- Webhooks: who is told, how far the log was turned into deliveries, and the deliveries with what came of them. No body is
-- kept here: deliveries name log entries, and are rendered when they are sent.

-- +goose Up

CREATE TABLE webhook (
    webhook_id            uuid PRIMARY KEY,
    url                   text        NOT NULL,
    description           text        NOT NULL DEFAULT '',
    -- The numbers of parley.v1.WebhookEventType.
    event_types           smallint[]  NOT NULL CHECK (cardinality(event_types) BETWEEN 1 AND 7),
    is_enabled            boolean     NOT NULL DEFAULT true,
    -- 1: more waited than is kept. 0: not disabled by the server.
    disabled_reason       smallint    NOT NULL DEFAULT 0,
    -- 1 allow, 2 reject; 0 where it does not moderate.
    moderation_failure    smallint    NOT NULL DEFAULT 0,
    moderation_timeout_ms integer     NOT NULL DEFAULT 500 CHECK (moderation_timeout_ms BETWEEN 50 AND 3000),
    -- Sealed with PARLEY_WEBHOOK_KEY.
    secret                bytea       NOT NULL,
    old_secret            bytea,
    old_secret_until      timestamptz,
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    CHECK ((7 = ANY (event_types)) = (moderation_failure <> 0)),
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL))
);
CREATE UNIQUE INDEX webhook_one_moderates ON webhook ((true)) WHERE 7 = ANY (event_types);

-- One row. generation counts changes of webhooks, so that nodes see cheaply whether they know the present ones. snapshot is
-- what of the commit log and relation_change was turned into deliveries; NULL while nobody is to be told.
CREATE TABLE webhook_reader (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    generation bigint  NOT NULL DEFAULT 0,
    snapshot   text,
    read_at    timestamptz
);
INSERT INTO webhook_reader DEFAULT VALUES;

-- Up to where each session's log was told, for sessions in which something was told lately.
CREATE TABLE webhook_session (
    session_id uuid PRIMARY KEY,
    seq_id     bigint      NOT NULL,
    told_at    timestamptz NOT NULL
) WITH (fillfactor = 80);
-- Serves forgetting old ones.
CREATE INDEX webhook_session_old ON webhook_session (told_at);

CREATE SEQUENCE webhook_position;

-- What one webhook is told of one thing. Deliveries of a webhook with the same lane (a session, or a user's relations) go
-- out one after the other in the order of (position, chunk). No foreign key to webhook: what is left of a deleted one goes
-- in small steps.
CREATE TABLE webhook_delivery (
    -- Made of what it is about, so that the same thing never becomes two.
    delivery_id uuid PRIMARY KEY,
    webhook_id  uuid        NOT NULL,
    lane        uuid        NOT NULL,
    position    bigint      NOT NULL,
    -- 0, or for an offline message the number of this part of its audience, from 1.
    chunk       integer     NOT NULL DEFAULT 0,
    event_type  smallint    NOT NULL,
    session_id  uuid,
    seq_id      bigint      NOT NULL DEFAULT 0,
    user_ids    text[]      NOT NULL DEFAULT '{}',
    -- What user_ids[1] was to user_ids[2], for relations: as user_to_user.kind, 0 for none.
    relation    smallint    NOT NULL DEFAULT 0,
    -- 1 waiting, 2 delivered, 3 given up, 4 needless.
    state       smallint    NOT NULL DEFAULT 1 CHECK (state BETWEEN 1 AND 4),
    attempts    integer     NOT NULL DEFAULT 0,
    tries       integer     NOT NULL DEFAULT 0, -- attempts ever, also before replays
    queued_at   timestamptz NOT NULL,
    due_at      timestamptz NOT NULL
);
-- Serves the next one of a lane, and how many wait.
CREATE INDEX webhook_delivery_waiting ON webhook_delivery (webhook_id, lane, position, chunk) WHERE state = 1;
-- Serves the log's pages.
CREATE INDEX webhook_delivery_log ON webhook_delivery (webhook_id, position DESC, chunk DESC);
-- Serves replaying what was given up on.
CREATE INDEX webhook_delivery_given_up ON webhook_delivery (webhook_id, position, chunk) WHERE state = 3;
-- Serves forgetting old ones.
CREATE INDEX webhook_delivery_old ON webhook_delivery (queued_at) WHERE state <> 1;

CREATE TABLE webhook_attempt (
    delivery_id uuid        NOT NULL REFERENCES webhook_delivery ON DELETE CASCADE,
    number      integer     NOT NULL,
    at          timestamptz NOT NULL,
    status      integer     NOT NULL,
    error       text        NOT NULL,
    millis      integer     NOT NULL,
    PRIMARY KEY (delivery_id, number)
);

-- Tables of the job queue live apart; migration 9 makes them.
CREATE SCHEMA river;

-- +goose Down
DROP SCHEMA river CASCADE;
DROP TABLE webhook_attempt, webhook_delivery, webhook_session, webhook_reader, webhook;
DROP SEQUENCE webhook_position;
