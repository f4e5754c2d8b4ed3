-- Version 1. Everything stands in the schema that the connection makes things in (search_path), under names with tape_.

-- One row: what holds for the whole store.
CREATE TABLE tape_store(
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  base bigint NOT NULL,           -- added to transaction ids to get places in the feed; grows when a copy moves to another cluster
  part smallint NOT NULL          -- the part of tape_entry that new runs go to
);
INSERT INTO tape_store(base, part) VALUES (0, 1);

-- Where each stream ends. The only row that a commit changes in place; no changing column is indexed, so that the change
-- stays on its page.
CREATE TABLE tape_head(
  key bytea NOT NULL,             -- the first sixteen bytes of the name's SHA-256
  stream bigint GENERATED ALWAYS AS IDENTITY,
  seq bigint NOT NULL,
  epoch bigint NOT NULL,
  part smallint NOT NULL,
  digest bytea NOT NULL,          -- of the last entry
  name text COLLATE "C" NOT NULL
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX tape_head_key ON tape_head(key);
CREATE UNIQUE INDEX tape_head_stream ON tape_head(stream);

-- All entries. Part 0 has what is kept for ever; runs go to the other parts in turn, so that an old part is emptied as a whole.
CREATE TABLE tape_entry(
  ord bigint NOT NULL,            -- id of the transaction that wrote it, plus the base
  stream bigint NOT NULL,
  seq bigint NOT NULL,
  part smallint NOT NULL,
  digest bytea NOT NULL,
  batch bytea,                    -- name of the batch, on the last entry of a batch
  envelope bytea NOT NULL,
  payload bytea,                  -- null where erased
  erased boolean NOT NULL DEFAULT false   -- a payload that is gone without this mark was destroyed
) PARTITION BY LIST (part);
CREATE INDEX tape_entry_feed ON tape_entry(ord, stream, seq);

DO $$ BEGIN
  FOR n IN 0..12 LOOP
    EXECUTE format('CREATE TABLE tape_entry_%s PARTITION OF tape_entry FOR VALUES IN (%s)', n, n);
    EXECUTE format('CREATE UNIQUE INDEX tape_entry_%s_stream ON tape_entry_%s(stream, seq)', n, n);
  END LOOP;
END $$;

CREATE TABLE tape_snapshot(stream bigint PRIMARY KEY, seq bigint NOT NULL, bytes bytea NOT NULL);

CREATE TABLE tape_agenda(
  queue smallint NOT NULL,
  due bigint NOT NULL,            -- microseconds since 1970
  stream bigint NOT NULL,
  item text COLLATE "C" NOT NULL,
  PRIMARY KEY (queue, due, stream, item)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

CREATE TABLE tape_run(
  stream bigint PRIMARY KEY,
  begun_at bigint NOT NULL,
  changed_at bigint NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  app text COLLATE "C" NOT NULL,
  status text COLLATE "C" NOT NULL,
  labels text COLLATE "C" NOT NULL,   -- a JSON object
  label_keys bytea NOT NULL       -- for each label the SHA-256 of its key, a zero byte and its value
) WITH (fillfactor = 80);
CREATE INDEX tape_run_tenant ON tape_run(tenant, begun_at, stream);
CREATE INDEX tape_run_status ON tape_run(tenant, status, begun_at, stream);
CREATE INDEX tape_run_app ON tape_run(tenant, app, begun_at, stream);
CREATE INDEX tape_run_app_status ON tape_run(tenant, app, status, begun_at, stream);

CREATE TABLE tape_label(
  tenant text COLLATE "C" NOT NULL,
  label bytea NOT NULL,
  begun_at bigint NOT NULL,
  stream bigint NOT NULL,
  PRIMARY KEY (tenant, label, begun_at, stream)
);

CREATE FUNCTION tape_relabel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    DELETE FROM tape_label l USING generate_series(0, length(OLD.label_keys) / 32 - 1) n
      WHERE l.tenant = OLD.tenant AND l.label = substring(OLD.label_keys FROM n * 32 + 1 FOR 32)
        AND l.begun_at = OLD.begun_at AND l.stream = OLD.stream;
  END IF;
  INSERT INTO tape_label SELECT NEW.tenant, substring(NEW.label_keys FROM n * 32 + 1 FOR 32), NEW.begun_at, NEW.stream
    FROM generate_series(0, length(NEW.label_keys) / 32 - 1) n;
  RETURN NULL;
END $$;
CREATE TRIGGER tape_run_label AFTER INSERT ON tape_run
  FOR EACH ROW WHEN (NEW.label_keys <> '') EXECUTE FUNCTION tape_relabel();
CREATE TRIGGER tape_run_relabel AFTER UPDATE ON tape_run
  FOR EACH ROW WHEN ((OLD.label_keys, OLD.begun_at) IS DISTINCT FROM (NEW.label_keys, NEW.begun_at))
  EXECUTE FUNCTION tape_relabel();

-- For people with psql.

-- The key of a stream's name: SELECT * FROM tape_entries WHERE key = tape_key('acme/run/treasury/ann/s1/i1').
CREATE FUNCTION tape_key(name text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT
  RETURN substring(sha256(convert_to(name, 'UTF8')) FROM 1 FOR 16);

-- Bytes as text where they are text, else as hexadecimal digits.
CREATE FUNCTION tape_text(bytes bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
  RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
  RETURN '\x' || encode(bytes, 'hex');
END $$;

CREATE VIEW tape_entries AS
  SELECT h.name AS stream, e.seq, to_timestamp((tape_text(e.envelope)::json->>'at')::bigint / 1000000.0) AS at,
    tape_text(e.envelope)::json->'entry'->>'kind' AS kind, tape_text(e.payload) AS payload,
    tape_text(e.envelope)::json AS envelope, encode(e.digest, 'hex') AS digest, e.ord, h.key
  FROM tape_head h JOIN tape_entry e ON e.part = h.part AND e.stream = h.stream;
