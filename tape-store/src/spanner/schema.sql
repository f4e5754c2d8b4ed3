-- Version 1. Statements end with a semicolon at the end of a line; each can be carried out again.
-- Identifiers of streams are the first sixteen bytes of the SHA-256 of their names: spread evenly, so no range of keys grows at its end.

-- One row: what holds for the whole store, for ever.
CREATE TABLE IF NOT EXISTS tape_store (
  single BOOL NOT NULL,
  shards INT64 NOT NULL
) PRIMARY KEY (single);

-- One row a stream; what belongs to it stands beside it. The columns after made are of runs that lists show.
CREATE TABLE IF NOT EXISTS tape_stream (
  id BYTES(16) NOT NULL,
  name STRING(MAX) NOT NULL,
  made TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  tenant STRING(256),
  app STRING(256),
  status STRING(64),
  begun_at INT64,
  changed_at INT64,
  labels STRING(MAX)
) PRIMARY KEY (id);
CREATE NULL_FILTERED INDEX IF NOT EXISTS tape_run_tenant ON tape_stream(tenant, begun_at DESC, made DESC);
CREATE NULL_FILTERED INDEX IF NOT EXISTS tape_run_status ON tape_stream(tenant, status, begun_at DESC, made DESC);
CREATE NULL_FILTERED INDEX IF NOT EXISTS tape_run_app ON tape_stream(tenant, app, begun_at DESC, made DESC);
CREATE NULL_FILTERED INDEX IF NOT EXISTS tape_run_app_status ON tape_stream(tenant, app, status, begun_at DESC, made DESC);

-- Where each stream ends: one row, whose key is the end, so that a change of that row is a condition on the end. The newest comes
-- first, before what is left of those that were deleted.
CREATE TABLE IF NOT EXISTS tape_head (
  id BYTES(16) NOT NULL,
  seq INT64 NOT NULL,
  epoch INT64 NOT NULL,
  digest BYTES(32) NOT NULL
) PRIMARY KEY (id, seq DESC, epoch),
  INTERLEAVE IN PARENT tape_stream ON DELETE CASCADE;

-- batch is the name of the batch, on its last entry. A payload that is gone without the mark erased was destroyed.
-- size is that of the entry when it was written, in bytes: a page of the feed is cut before its entries are read.
CREATE TABLE IF NOT EXISTS tape_entry (
  id BYTES(16) NOT NULL,
  seq INT64 NOT NULL,
  shard INT64 NOT NULL,
  committed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  digest BYTES(32) NOT NULL,
  batch BYTES(16),
  envelope BYTES(MAX) NOT NULL,
  payload BYTES(MAX),
  erased BOOL,
  size INT64 NOT NULL
) PRIMARY KEY (id, seq),
  INTERLEAVE IN PARENT tape_stream ON DELETE CASCADE;
CREATE INDEX IF NOT EXISTS tape_feed ON tape_entry(shard, committed_at, id, seq) STORING (size);

-- With which entry a stream begins, where older ones were dropped: its first row, since the numbers only grow.
CREATE TABLE IF NOT EXISTS tape_kept (
  id BYTES(16) NOT NULL,
  first INT64 NOT NULL
) PRIMARY KEY (id, first DESC),
  INTERLEAVE IN PARENT tape_stream ON DELETE CASCADE;

CREATE TABLE IF NOT EXISTS tape_snapshot (
  id BYTES(16) NOT NULL,
  seq INT64 NOT NULL,
  bytes BYTES(MAX) NOT NULL
) PRIMARY KEY (id),
  INTERLEAVE IN PARENT tape_stream ON DELETE CASCADE;

-- label is the SHA-256 of a label's key, a zero byte and its value.
CREATE TABLE IF NOT EXISTS tape_label (
  id BYTES(16) NOT NULL,
  label BYTES(32) NOT NULL,
  tenant STRING(256) NOT NULL,
  begun_at INT64 NOT NULL
) PRIMARY KEY (id, label),
  INTERLEAVE IN PARENT tape_stream ON DELETE CASCADE;
CREATE INDEX IF NOT EXISTS tape_label_run ON tape_label(tenant, label, begun_at DESC);

-- due is microseconds since 1970.
CREATE TABLE IF NOT EXISTS tape_agenda (
  queue INT64 NOT NULL,
  shard INT64 NOT NULL,
  due INT64 NOT NULL,
  id BYTES(16) NOT NULL,
  item STRING(MAX) NOT NULL,
  name STRING(MAX) NOT NULL
) PRIMARY KEY (queue, shard, due, id, item);

-- Batches that were resolved and not found: they are never committed. No request is under way for days.
CREATE TABLE IF NOT EXISTS tape_void (
  id BYTES(16) NOT NULL,
  batch BYTES(16) NOT NULL,
  committed_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true)
) PRIMARY KEY (id, batch),
  ROW DELETION POLICY (OLDER_THAN(committed_at, INTERVAL 7 DAY));
