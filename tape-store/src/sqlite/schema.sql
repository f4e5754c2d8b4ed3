-- Version 2. Entries of all streams stand in one table in the order of their commits, so that a commit appends at one place however
-- many streams it is for. A stream's entries are found from its end: each has the place of the one before, and every
-- 256th one stands in waypoint too. Only small rows are ever updated in place.

CREATE TABLE stream(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE entry(
  pos INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  prev INTEGER,                 -- pos of the stream's entry before
  epoch INTEGER,                -- epoch after the batch, on the last entry of a batch
  batch BLOB,                   -- name of the batch, on the last entry of a batch
  digest BLOB NOT NULL,
  envelope BLOB NOT NULL,
  payload BLOB                  -- null where erased, which erased.sql marks
) STRICT;

CREATE TABLE head(stream INTEGER PRIMARY KEY, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, pos INTEGER) STRICT;

CREATE TABLE waypoint(
  stream INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  pos INTEGER NOT NULL,
  PRIMARY KEY(stream, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER stream_head AFTER INSERT ON stream BEGIN
  INSERT INTO head VALUES(NEW.id, 0, 0, NULL);
END;

CREATE TRIGGER entry_head AFTER INSERT ON entry WHEN NEW.epoch IS NOT NULL BEGIN
  UPDATE head SET seq = NEW.seq, epoch = NEW.epoch, pos = NEW.pos WHERE stream = NEW.stream;
END;

CREATE TRIGGER entry_waypoint AFTER INSERT ON entry WHEN NEW.seq & 255 = 0 BEGIN
  INSERT INTO waypoint VALUES(NEW.stream, NEW.seq, NEW.pos);
END;

CREATE TABLE snapshot(stream INTEGER PRIMARY KEY, seq INTEGER NOT NULL, bytes BLOB NOT NULL) STRICT;

CREATE TABLE agenda(
  queue INTEGER NOT NULL,
  due INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  item TEXT NOT NULL,
  PRIMARY KEY(queue, due, stream, item)
) STRICT, WITHOUT ROWID;

CREATE TABLE run(
  stream INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  app TEXT NOT NULL,
  status TEXT NOT NULL,
  begun_at INTEGER NOT NULL,
  changed_at INTEGER NOT NULL,
  labels TEXT NOT NULL          -- a JSON object
) STRICT;
CREATE INDEX run_tenant ON run(tenant, begun_at, stream);
CREATE INDEX run_status ON run(tenant, status, begun_at, stream);
CREATE INDEX run_app ON run(tenant, app, begun_at, stream);
CREATE INDEX run_app_status ON run(tenant, app, status, begun_at, stream);

CREATE TABLE label(
  tenant TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  begun_at INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  PRIMARY KEY(tenant, key, value, begun_at, stream)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER run_label AFTER INSERT ON run BEGIN
  INSERT INTO label SELECT NEW.tenant, key, value, NEW.begun_at, NEW.stream FROM json_each(NEW.labels);
END;

CREATE TRIGGER run_relabel AFTER UPDATE OF labels, begun_at ON run BEGIN
  DELETE FROM label WHERE (tenant, key, value, begun_at, stream)
    IN (SELECT OLD.tenant, key, value, OLD.begun_at, OLD.stream FROM json_each(OLD.labels));
  INSERT INTO label SELECT NEW.tenant, key, value, NEW.begun_at, NEW.stream FROM json_each(NEW.labels);
END;
