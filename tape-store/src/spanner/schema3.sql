-- Version 3. Sessions and values are listed by name. Runs have no such name: they are listed otherwise, and there are many of them.
ALTER TABLE tape_stream ADD COLUMN IF NOT EXISTS named STRING(MAX)
  AS (IF(REGEXP_CONTAINS(name, r'^[^/]+/(session|value)/'), name, NULL)) STORED;
CREATE NULL_FILTERED INDEX IF NOT EXISTS tape_named ON tape_stream(named);
