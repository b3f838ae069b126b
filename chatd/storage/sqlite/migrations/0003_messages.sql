-- Bits of an event as in its journal record: 1 counts for unread, 2 body begins with the extension block, 4 tombstone.
-- Events folded before this migration have 0: nobody asks them for bit 1.
ALTER TABLE event ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;

-- What events about messages add up to: kept so that nobody has to read a log to know it.
CREATE TABLE edit(cid INTEGER NOT NULL, target INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY(cid, target, seq)) WITHOUT ROWID;
CREATE TABLE reaction(cid INTEGER NOT NULL, target INTEGER NOT NULL, uid INTEGER NOT NULL, emoji TEXT NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(cid, target, uid, emoji)) WITHOUT ROWID;
CREATE TABLE pin(cid INTEGER NOT NULL, target INTEGER NOT NULL, uid INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(cid, target)) WITHOUT ROWID;
-- uid 0: everyone.
CREATE TABLE mention(cid INTEGER NOT NULL, seq INTEGER NOT NULL, uid INTEGER NOT NULL,
    PRIMARY KEY(cid, seq, uid)) WITHOUT ROWID;
CREATE INDEX mention_uid ON mention(uid, cid, seq);
CREATE TABLE expiry(cid INTEGER NOT NULL, seq INTEGER NOT NULL, due_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(cid, seq)) WITHOUT ROWID;
CREATE INDEX expiry_due ON expiry(due_ms);
CREATE TABLE scheduled(uid INTEGER NOT NULL, number INTEGER NOT NULL, cid INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL DEFAULT 0, kind INTEGER NOT NULL DEFAULT 0, has_ext INTEGER NOT NULL DEFAULT 0,
    content BLOB NOT NULL DEFAULT x'', PRIMARY KEY(uid, number)) WITHOUT ROWID;
CREATE INDEX scheduled_due ON scheduled(due_ms);
CREATE TABLE draft(uid INTEGER NOT NULL, cid INTEGER NOT NULL, content BLOB NOT NULL DEFAULT x'',
    changed_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(uid, cid)) WITHOUT ROWID;
