-- Commands to devices that wait for their final result; due_ms: when the server says that it did not come.
CREATE TABLE command(cid BIGINT NOT NULL, seq BIGINT NOT NULL, uid BIGINT NOT NULL DEFAULT 0,
    accepted BIGINT NOT NULL DEFAULT 0, due_ms BIGINT NOT NULL DEFAULT 0, PRIMARY KEY(cid, seq));
CREATE INDEX command_due ON command(due_ms);

-- Service desks: a name for customers, and the group of the agents; cid 0: no such desk any more.
CREATE TABLE desk(
    name TEXT COLLATE "C" PRIMARY KEY,
    cid BIGINT NOT NULL DEFAULT 0
);

-- Conversations of customers with desks. state as in CASE_CHANGED; since_ms: when it came into that state.
CREATE TABLE service_case(
    cid BIGINT PRIMARY KEY,
    desk BIGINT NOT NULL DEFAULT 0,
    customer BIGINT NOT NULL DEFAULT 0,
    state BIGINT NOT NULL DEFAULT 0,
    agent BIGINT NOT NULL DEFAULT 0,
    since_ms BIGINT NOT NULL DEFAULT 0,
    stars BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX service_case_desk ON service_case(desk, cid);
