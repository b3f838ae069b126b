-- How long a conversation keeps its events, and the floor below which it has none any more. cid 0: there are floors at all.
-- below_count: message_count of the event before the floor. The folder deletes what lies below when due_ms has come;
-- up to erased_seq nothing of the content is left.
CREATE TABLE retention(
    cid INTEGER PRIMARY KEY,
    days INTEGER NOT NULL DEFAULT 0,
    events INTEGER NOT NULL DEFAULT 0,
    floor_seq INTEGER NOT NULL DEFAULT 0,
    below_count INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL DEFAULT 0,
    erased_seq INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX retention_due ON retention(due_ms);
