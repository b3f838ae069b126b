-- The main database. docs/internals/journal.md has the overview; the folder is the only writer.
-- Every column that ROW records may leave out has a default, so that a partial upsert is always possible.

CREATE TABLE user(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL DEFAULT '',
    display_name TEXT NOT NULL DEFAULT '',
    password_hash TEXT,
    flags INTEGER NOT NULL DEFAULT 0,
    token_epoch INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL DEFAULT 0
);
-- Users without a name (guests) have the empty one.
CREATE UNIQUE INDEX user_name ON user(name) WHERE name <> '';

CREATE TABLE device(
    id INTEGER PRIMARY KEY,
    uid INTEGER NOT NULL DEFAULT 0,
    label TEXT NOT NULL DEFAULT '',
    key BLOB,
    flags INTEGER NOT NULL DEFAULT 0,
    cseq_max INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX device_uid ON device(uid);

CREATE TABLE api_key(
    id INTEGER PRIMARY KEY,
    uid INTEGER NOT NULL DEFAULT 0,
    label TEXT NOT NULL DEFAULT '',
    hash BLOB NOT NULL DEFAULT x'',
    flags INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX api_key_hash ON api_key(hash);

CREATE TABLE conversation(
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL DEFAULT 0,
    title TEXT NOT NULL DEFAULT '',
    flags INTEGER NOT NULL DEFAULT 0,
    owner INTEGER NOT NULL DEFAULT 0,
    direct_key,
    head_seq INTEGER NOT NULL DEFAULT 0,
    message_count INTEGER NOT NULL DEFAULT 0,
    last_ts INTEGER NOT NULL DEFAULT 0,
    changed_pos INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX conversation_direct_key ON conversation(direct_key) WHERE direct_key IS NOT NULL;

-- One row per interval: a rejoin is a new one. leave_seq 0: still a member.
CREATE TABLE membership(
    cid INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    join_seq INTEGER NOT NULL,
    leave_seq INTEGER NOT NULL,
    role INTEGER NOT NULL,
    changed_pos INTEGER NOT NULL,
    PRIMARY KEY(cid, uid, join_seq)
) WITHOUT ROWID;
CREATE INDEX membership_uid ON membership(uid, cid);

CREATE TABLE position(
    cid INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    delivered_seq INTEGER NOT NULL,
    read_seq INTEGER NOT NULL,
    read_count INTEGER NOT NULL,
    changed_pos INTEGER NOT NULL,
    PRIMARY KEY(cid, uid)
) WITHOUT ROWID;
CREATE INDEX position_uid ON position(uid, changed_pos);

-- In the order in which they were folded, and a fold sorts by conversation: a new row goes behind all others, so that a
-- page is written once. event_run says where those of a conversation are.
-- message_count counts the messages of the conversation up to and including this event: unread is a difference.
CREATE TABLE event(
    id INTEGER PRIMARY KEY,
    cid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    ts INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    device INTEGER NOT NULL,
    cseq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    message_count INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    body BLOB NOT NULL
);

-- One row per conversation and fold: the events first_seq to last_seq have the ids from first_id on, without gaps.
CREATE TABLE event_run(
    cid INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    PRIMARY KEY(cid, first_seq)
) WITHOUT ROWID;

-- Where the sends of a device went, up to 256 in a row: [[cid, seq], …] of first_cseq to last_cseq; seq 0: the client
-- skipped that number. Time and digest are those of the event. The runs of a device follow each other.
CREATE TABLE send_run(
    device INTEGER NOT NULL,
    first_cseq INTEGER NOT NULL,
    last_cseq INTEGER NOT NULL,
    sends TEXT NOT NULL,
    PRIMARY KEY(device, first_cseq)
);

-- Sends that came when a later number of their device had been folded already. What a run calls skipped may be here.
CREATE TABLE late_send(
    device INTEGER NOT NULL,
    cseq INTEGER NOT NULL,
    cid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY(device, cseq)
) WITHOUT ROWID;

CREATE VIEW send(device, cseq, cid, seq) AS
SELECT r.device, r.first_cseq + s.key, s.value ->> 0, s.value ->> 1 FROM send_run r, json_each(r.sends) s
UNION ALL SELECT device, cseq, cid, seq FROM late_send;

CREATE TABLE request_key(
    uid INTEGER NOT NULL,
    key BLOB NOT NULL,
    result BLOB,
    created_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(uid, key)
) WITHOUT ROWID;
CREATE INDEX request_key_created ON request_key(created_ms);
