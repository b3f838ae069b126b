-- Bits of an event as in its journal record: 1 counts for unread, 2 body begins with the extension block, 4 tombstone.
-- Events folded before this migration have 0: nobody asks them for bit 1.
ALTER TABLE event ADD COLUMN flags BIGINT NOT NULL DEFAULT 0;

-- What events about messages add up to: kept so that nobody has to read a log to know it.
CREATE TABLE edit(cid BIGINT NOT NULL, target BIGINT NOT NULL, seq BIGINT NOT NULL,
    PRIMARY KEY(cid, target, seq));
CREATE TABLE reaction(cid BIGINT NOT NULL, target BIGINT NOT NULL, uid BIGINT NOT NULL, emoji TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL DEFAULT 0, PRIMARY KEY(cid, target, uid, emoji));
CREATE TABLE pin(cid BIGINT NOT NULL, target BIGINT NOT NULL, uid BIGINT NOT NULL DEFAULT 0,
    seq BIGINT NOT NULL DEFAULT 0, PRIMARY KEY(cid, target));
-- uid 0: everyone.
CREATE TABLE mention(cid BIGINT NOT NULL, seq BIGINT NOT NULL, uid BIGINT NOT NULL,
    PRIMARY KEY(cid, seq, uid));
CREATE INDEX mention_uid ON mention(uid, cid, seq);
CREATE TABLE expiry(cid BIGINT NOT NULL, seq BIGINT NOT NULL, due_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY(cid, seq));
CREATE INDEX expiry_due ON expiry(due_ms);
CREATE TABLE scheduled(uid BIGINT NOT NULL, number BIGINT NOT NULL, cid BIGINT NOT NULL DEFAULT 0,
    due_ms BIGINT NOT NULL DEFAULT 0, kind BIGINT NOT NULL DEFAULT 0, has_ext BIGINT NOT NULL DEFAULT 0,
    content BYTEA NOT NULL DEFAULT '', PRIMARY KEY(uid, number));
CREATE INDEX scheduled_due ON scheduled(due_ms);
CREATE TABLE draft(uid BIGINT NOT NULL, cid BIGINT NOT NULL, content BYTEA NOT NULL DEFAULT '',
    changed_ms BIGINT NOT NULL DEFAULT 0, PRIMARY KEY(uid, cid));
