-- Version 4. Records of readers of the feed, each changed under its version only.

-- One row a record. Reads and lists need no other table, so what deleted rows leave behind is not in their way.
CREATE TABLE IF NOT EXISTS tape_record (
  name STRING(1280) NOT NULL,
  version INT64 NOT NULL,
  bytes BYTES(MAX) NOT NULL
) PRIMARY KEY (name);

-- The version of a record: one row, whose key has it, so that a change of that row is a condition on the version. gone is what a condition
-- changes.
CREATE TABLE IF NOT EXISTS tape_record_version (
  name STRING(1280) NOT NULL,
  version INT64 NOT NULL,
  gone BOOL
) PRIMARY KEY (name, version),
  INTERLEAVE IN PARENT tape_record ON DELETE CASCADE;
