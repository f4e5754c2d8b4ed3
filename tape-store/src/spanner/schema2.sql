-- Version 2. The end of a stream has the digest of its last entry in its key, so that the condition of a commit covers it.

-- Where each stream ends: one row, whose key is the end, so that a change of that row is a condition on the end. The newest comes
-- first, before what is left of those that were deleted. gone is what a condition changes.
CREATE TABLE IF NOT EXISTS tape_end (
  id BYTES(16) NOT NULL,
  seq INT64 NOT NULL,
  epoch INT64 NOT NULL,
  digest BYTES(32) NOT NULL,
  gone BOOL
) PRIMARY KEY (id, seq DESC, epoch, digest),
  INTERLEAVE IN PARENT tape_stream ON DELETE CASCADE;
