-- Live streams that run: what of them outlives their hub.
CREATE TABLE live_stream(cid INTEGER NOT NULL, stream INTEGER NOT NULL, uid INTEGER NOT NULL DEFAULT 0,
    device INTEGER NOT NULL DEFAULT 0, kind INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL DEFAULT 0,
    content BLOB NOT NULL DEFAULT x'', PRIMARY KEY(cid, stream)) WITHOUT ROWID;
CREATE INDEX live_stream_due ON live_stream(due_ms);
