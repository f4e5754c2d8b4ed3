-- Version 4. Records of readers of the feed, each changed often and under its version only.
-- The version is in no index, and each page has room for as much again as its rows: a change is made within the page, and the next one
-- there takes away what it left. Long records lie beside the table and leave whole rows behind with each change.
CREATE TABLE tape_record(
  name text COLLATE "C" PRIMARY KEY,
  version bigint NOT NULL,
  bytes bytea NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
  toast.autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_vacuum_threshold = 1000);
