-- Commands to devices that wait for their final result; due_ms: when the server says that it did not come.
CREATE TABLE command(cid INTEGER NOT NULL, seq INTEGER NOT NULL, uid INTEGER NOT NULL DEFAULT 0,
    accepted INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(cid, seq)) WITHOUT ROWID;
CREATE INDEX command_due ON command(due_ms);

-- Service desks: a name for customers, and the group of the agents; cid 0: no such desk any more.
CREATE TABLE desk(
    name TEXT PRIMARY KEY,
    cid INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Conversations of customers with desks. state as in CASE_CHANGED; since_ms: when it came into that state.
CREATE TABLE service_case(
    cid INTEGER PRIMARY KEY,
    desk INTEGER NOT NULL DEFAULT 0,
    customer INTEGER NOT NULL DEFAULT 0,
    state INTEGER NOT NULL DEFAULT 0,
    agent INTEGER NOT NULL DEFAULT 0,
    since_ms INTEGER NOT NULL DEFAULT 0,
    stars INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX service_case_desk ON service_case(desk, cid);
