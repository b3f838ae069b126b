-- Who may see when a user is there, and when the user was there last. Two tables: the second one is written without reading.

CREATE TABLE presence(
    uid BIGINT PRIMARY KEY,
    audience BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE last_seen(
    uid BIGINT PRIMARY KEY,
    seen_ms BIGINT NOT NULL DEFAULT 0
);
