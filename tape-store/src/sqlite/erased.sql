-- What was erased on request, by the place of the entry. A payload that is gone without standing here was destroyed. Marking and
-- erasing are one statement.
CREATE TABLE erased(pos INTEGER PRIMARY KEY) STRICT;

CREATE TRIGGER erase_payload AFTER INSERT ON erased BEGIN
  UPDATE entry SET payload = NULL WHERE pos = NEW.pos;
END;
