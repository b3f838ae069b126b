-- People and conversations: profiles, rules of conversations, who may not, who was invited, who knows whom.

ALTER TABLE "user" ADD COLUMN about TEXT NOT NULL DEFAULT '';
ALTER TABLE "user" ADD COLUMN avatar TEXT NOT NULL DEFAULT '';

ALTER TABLE conversation ADD COLUMN topic TEXT NOT NULL DEFAULT '';
ALTER TABLE conversation ADD COLUMN avatar TEXT NOT NULL DEFAULT '';
ALTER TABLE conversation ADD COLUMN slow_mode_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversation ADD COLUMN history BIGINT NOT NULL DEFAULT 0;
-- MessagePack {role: rights}; NULL: what the kind of conversation denies.
ALTER TABLE conversation ADD COLUMN denied BYTEA;
ALTER TABLE conversation ADD COLUMN public_name TEXT NOT NULL DEFAULT '';

-- cid 0: the name is free again.
CREATE TABLE public_name(
    name TEXT COLLATE "C" PRIMARY KEY,
    cid BIGINT NOT NULL DEFAULT 0
);

-- Times are Unix seconds; 0: not muted, not banned; 4294967295: for ever.
CREATE TABLE restriction(
    cid BIGINT NOT NULL,
    uid BIGINT NOT NULL,
    muted_until_s BIGINT NOT NULL DEFAULT 0,
    banned_until_s BIGINT NOT NULL DEFAULT 0,
    by_uid BIGINT NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    changed_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY(cid, uid)
);

-- flags: 1 revoked, 2 who comes has to be accepted.
CREATE TABLE invitation(
    id BIGINT PRIMARY KEY,
    token BYTEA NOT NULL DEFAULT '',
    cid BIGINT NOT NULL DEFAULT 0,
    by_uid BIGINT NOT NULL DEFAULT 0,
    expires_s BIGINT NOT NULL DEFAULT 0,
    uses_max BIGINT NOT NULL DEFAULT 0,
    uses BIGINT NOT NULL DEFAULT 0,
    flags BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX invitation_token ON invitation(token);
CREATE INDEX invitation_cid ON invitation(cid, id);

-- state: 1 waits, 0 answered.
CREATE TABLE join_request(
    cid BIGINT NOT NULL,
    uid BIGINT NOT NULL,
    state BIGINT NOT NULL DEFAULT 0,
    text TEXT NOT NULL DEFAULT '',
    created_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY(cid, uid)
);

-- How uid stands to other. state: bits of RELATION_LIST.
CREATE TABLE relation(
    uid BIGINT NOT NULL,
    other BIGINT NOT NULL,
    state BIGINT NOT NULL DEFAULT 0,
    text TEXT NOT NULL DEFAULT '',
    changed_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY(uid, other)
);

-- How uid has a conversation for himself. flags: bits of OWN_LIST; hidden: MessagePack list of seqs.
CREATE TABLE own_setting(
    uid BIGINT NOT NULL,
    cid BIGINT NOT NULL,
    muted_until_s BIGINT NOT NULL DEFAULT 0,
    flags BIGINT NOT NULL DEFAULT 0,
    hidden_seq BIGINT NOT NULL DEFAULT 0,
    hidden BYTEA,
    changed_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY(uid, cid)
);

-- state: 1 open, 0 resolved.
CREATE TABLE report(
    id BIGINT PRIMARY KEY,
    cid BIGINT NOT NULL DEFAULT 0,
    seq BIGINT NOT NULL DEFAULT 0,
    uid BIGINT NOT NULL DEFAULT 0,
    by_uid BIGINT NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    state BIGINT NOT NULL DEFAULT 0,
    resolved_by BIGINT NOT NULL DEFAULT 0,
    note TEXT NOT NULL DEFAULT '',
    created_ms BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX report_open ON report(cid, id) WHERE state = 1;
