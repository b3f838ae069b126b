-- Who may see when a user is there, and when the user was there last. Two tables: the second one is written without reading.

CREATE TABLE presence(
    uid INTEGER PRIMARY KEY,
    audience INTEGER NOT NULL DEFAULT 1
);

CREATE TABLE last_seen(
    uid INTEGER PRIMARY KEY,
    seen_ms INTEGER NOT NULL DEFAULT 0
);
