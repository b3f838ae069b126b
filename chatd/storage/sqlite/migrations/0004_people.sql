-- People and conversations: profiles, rules of conversations, who may not, who was invited, who knows whom.

ALTER TABLE user ADD COLUMN about TEXT NOT NULL DEFAULT '';
ALTER TABLE user ADD COLUMN avatar TEXT NOT NULL DEFAULT '';

ALTER TABLE conversation ADD COLUMN topic TEXT NOT NULL DEFAULT '';
ALTER TABLE conversation ADD COLUMN avatar TEXT NOT NULL DEFAULT '';
ALTER TABLE conversation ADD COLUMN slow_mode_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversation ADD COLUMN history INTEGER NOT NULL DEFAULT 0;
-- MessagePack {role: rights}; NULL: what the kind of conversation denies.
ALTER TABLE conversation ADD COLUMN denied BLOB;
ALTER TABLE conversation ADD COLUMN public_name TEXT NOT NULL DEFAULT '';

-- cid 0: the name is free again.
CREATE TABLE public_name(
    name TEXT PRIMARY KEY,
    cid INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Times are Unix seconds; 0: not muted, not banned; 4294967295: for ever.
CREATE TABLE restriction(
    cid INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    muted_until_s INTEGER NOT NULL DEFAULT 0,
    banned_until_s INTEGER NOT NULL DEFAULT 0,
    by_uid INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    changed_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(cid, uid)
) WITHOUT ROWID;

-- flags: 1 revoked, 2 who comes has to be accepted.
CREATE TABLE invitation(
    id INTEGER PRIMARY KEY,
    token BLOB NOT NULL DEFAULT x'',
    cid INTEGER NOT NULL DEFAULT 0,
    by_uid INTEGER NOT NULL DEFAULT 0,
    expires_s INTEGER NOT NULL DEFAULT 0,
    uses_max INTEGER NOT NULL DEFAULT 0,
    uses INTEGER NOT NULL DEFAULT 0,
    flags INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX invitation_token ON invitation(token);
CREATE INDEX invitation_cid ON invitation(cid, id);

-- state: 1 waits, 0 answered.
CREATE TABLE join_request(
    cid INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    text TEXT NOT NULL DEFAULT '',
    created_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(cid, uid)
) WITHOUT ROWID;

-- How uid stands to other. state: bits of RELATION_LIST.
CREATE TABLE relation(
    uid INTEGER NOT NULL,
    other INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    text TEXT NOT NULL DEFAULT '',
    changed_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(uid, other)
) WITHOUT ROWID;

-- How uid has a conversation for himself. flags: bits of OWN_LIST; hidden: MessagePack list of seqs.
CREATE TABLE own_setting(
    uid INTEGER NOT NULL,
    cid INTEGER NOT NULL,
    muted_until_s INTEGER NOT NULL DEFAULT 0,
    flags INTEGER NOT NULL DEFAULT 0,
    hidden_seq INTEGER NOT NULL DEFAULT 0,
    hidden BLOB,
    changed_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(uid, cid)
) WITHOUT ROWID;

-- state: 1 open, 0 resolved.
CREATE TABLE report(
    id INTEGER PRIMARY KEY,
    cid INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0,
    uid INTEGER NOT NULL DEFAULT 0,
    by_uid INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    state INTEGER NOT NULL DEFAULT 0,
    resolved_by INTEGER NOT NULL DEFAULT 0,
    note TEXT NOT NULL DEFAULT '',
    created_ms INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX report_open ON report(cid, id) WHERE state = 1;
