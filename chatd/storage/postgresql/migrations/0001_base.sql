-- The same tables and columns as chatd/storage/sqlite/migrations, which says more about them and which a test compares,
-- and `batch`: the journal, which SQLite keeps in files of its own. The folder is the only writer of all others.

CREATE TABLE "user"(
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL DEFAULT '',
    display_name TEXT NOT NULL DEFAULT '',
    password_hash TEXT,
    flags BIGINT NOT NULL DEFAULT 0,
    token_epoch BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX user_name ON "user"(name) WHERE name <> '';

CREATE TABLE device(
    id BIGINT PRIMARY KEY,
    uid BIGINT NOT NULL DEFAULT 0,
    label TEXT NOT NULL DEFAULT '',
    key BYTEA,
    flags BIGINT NOT NULL DEFAULT 0,
    cseq_max BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX device_uid ON device(uid);

CREATE TABLE api_key(
    id BIGINT PRIMARY KEY,
    uid BIGINT NOT NULL DEFAULT 0,
    label TEXT NOT NULL DEFAULT '',
    hash BYTEA NOT NULL DEFAULT '',
    flags BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX api_key_hash ON api_key(hash);

CREATE TABLE conversation(
    id BIGINT PRIMARY KEY,
    kind BIGINT NOT NULL DEFAULT 0,
    title TEXT NOT NULL DEFAULT '',
    flags BIGINT NOT NULL DEFAULT 0,
    owner BIGINT NOT NULL DEFAULT 0,
    direct_key TEXT,
    head_seq BIGINT NOT NULL DEFAULT 0,
    message_count BIGINT NOT NULL DEFAULT 0,
    last_ts BIGINT NOT NULL DEFAULT 0,
    changed_pos BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX conversation_direct_key ON conversation(direct_key) WHERE direct_key IS NOT NULL;

CREATE TABLE membership(
    cid BIGINT NOT NULL,
    uid BIGINT NOT NULL,
    join_seq BIGINT NOT NULL,
    leave_seq BIGINT NOT NULL,
    role BIGINT NOT NULL,
    changed_pos BIGINT NOT NULL,
    PRIMARY KEY(cid, uid, join_seq)
);
CREATE INDEX membership_uid ON membership(uid, cid);

CREATE TABLE position(
    cid BIGINT NOT NULL,
    uid BIGINT NOT NULL,
    delivered_seq BIGINT NOT NULL,
    read_seq BIGINT NOT NULL,
    read_count BIGINT NOT NULL,
    changed_pos BIGINT NOT NULL,
    PRIMARY KEY(cid, uid)
) WITH (fillfactor = 70);
CREATE INDEX position_uid ON position(uid, changed_pos);

-- In the order in which they were folded, and a fold sorts by conversation: a new row goes behind all others, so that a
-- page is written once. event_run says where those of a conversation are.
-- message_count counts the messages of the conversation up to and including this event: unread is a difference.
CREATE TABLE event(
    id BIGINT PRIMARY KEY,
    cid BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    sender BIGINT NOT NULL,
    device BIGINT NOT NULL,
    cseq BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    message_count BIGINT NOT NULL,
    digest BIGINT NOT NULL,
    body BYTEA NOT NULL
);

-- One row per conversation and fold: the events first_seq to last_seq have the ids from first_id on, without gaps.
CREATE TABLE event_run(
    cid BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    first_id BIGINT NOT NULL,
    PRIMARY KEY(cid, first_seq)
);

-- Where the sends of a device went, up to 256 in a row: [[cid, seq], …] of first_cseq to last_cseq; seq 0: the client
-- skipped that number. Time and digest are those of the event. The runs of a device follow each other.
CREATE TABLE send_run(
    device BIGINT NOT NULL,
    first_cseq BIGINT NOT NULL,
    last_cseq BIGINT NOT NULL,
    sends TEXT NOT NULL,
    PRIMARY KEY(device, first_cseq)
);

-- Sends that came when a later number of their device had been folded already. What a run calls skipped may be here.
CREATE TABLE late_send(
    device BIGINT NOT NULL,
    cseq BIGINT NOT NULL,
    cid BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY(device, cseq)
);

CREATE VIEW send(device, cseq, cid, seq) AS
SELECT r.device, r.first_cseq + s.number - 1, CAST(s.value ->> 0 AS BIGINT), CAST(s.value ->> 1 AS BIGINT)
FROM send_run r, json_array_elements(CAST(r.sends AS json)) WITH ORDINALITY AS s(value, number)
UNION ALL SELECT device, cseq, cid, seq FROM late_send;

CREATE TABLE request_key(
    uid BIGINT NOT NULL,
    key BYTEA NOT NULL,
    result BYTEA,
    created_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY(uid, key)
);
CREATE INDEX request_key_created ON request_key(created_ms);

-- Written once and deleted when folded and no longer of use. EXTERNAL: compressing costs more than the space is worth
-- for half a minute.
CREATE TABLE batch(
    pos BIGINT PRIMARY KEY,
    count BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    blob BYTEA NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
ALTER TABLE batch ALTER COLUMN blob SET STORAGE EXTERNAL;
