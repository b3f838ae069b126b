-- Live streams that run: what of them outlives their hub.
CREATE TABLE live_stream(cid BIGINT NOT NULL, stream BIGINT NOT NULL, uid BIGINT NOT NULL DEFAULT 0,
    device BIGINT NOT NULL DEFAULT 0, kind BIGINT NOT NULL DEFAULT 0, due_ms BIGINT NOT NULL DEFAULT 0,
    content BYTEA NOT NULL DEFAULT '', PRIMARY KEY(cid, stream));
CREATE INDEX live_stream_due ON live_stream(due_ms);
