-- Version 2. Streams may begin with a later entry than their first: what was dropped stays behind in an old part until that is emptied,
-- and no reader takes it for theirs. An entry counts if its part is that of its head, and it does not come before the first.
ALTER TABLE tape_head ADD COLUMN first bigint NOT NULL DEFAULT 1;

CREATE OR REPLACE VIEW tape_entries AS
  SELECT h.name AS stream, e.seq, to_timestamp((tape_text(e.envelope)::json->>'at')::bigint / 1000000.0) AS at,
    tape_text(e.envelope)::json->'entry'->>'kind' AS kind, tape_text(e.payload) AS payload,
    tape_text(e.envelope)::json AS envelope, encode(e.digest, 'hex') AS digest, e.ord, h.key
  FROM tape_head h JOIN tape_entry e ON e.part = h.part AND e.stream = h.stream AND e.seq >= h.first;
