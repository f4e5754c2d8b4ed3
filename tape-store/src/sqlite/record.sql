-- Version 5. Where readers of the feed are.
CREATE TABLE record(name TEXT PRIMARY KEY, version INTEGER NOT NULL, bytes BLOB NOT NULL) STRICT, WITHOUT ROWID;
