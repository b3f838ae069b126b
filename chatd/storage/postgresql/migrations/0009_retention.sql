-- How long a conversation keeps its events, and the floor below which it has none any more. cid 0: there are floors at all.
-- below_count: message_count of the event before the floor. The folder deletes what lies below when due_ms has come;
-- up to erased_seq nothing of the content is left.
CREATE TABLE retention(
    cid BIGINT PRIMARY KEY,
    days BIGINT NOT NULL DEFAULT 0,
    events BIGINT NOT NULL DEFAULT 0,
    floor_seq BIGINT NOT NULL DEFAULT 0,
    below_count BIGINT NOT NULL DEFAULT 0,
    due_ms BIGINT NOT NULL DEFAULT 0,
    erased_seq BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX retention_due ON retention(due_ms);
