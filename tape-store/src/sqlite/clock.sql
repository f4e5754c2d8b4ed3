-- Version 4. The time of the journal: what has passed since the machine started, plus this. All processes that use the file run on one
-- machine and share it, whatever is done to the machine's clock.

CREATE TABLE clock(
  one INTEGER PRIMARY KEY CHECK (one = 1),
  boot TEXT NOT NULL,           -- names the start of the machine
  offset INTEGER NOT NULL,      -- microseconds
  step INTEGER NOT NULL,        -- by how many microseconds the machine's clock was set
  stepped INTEGER NOT NULL      -- when, in microseconds since the start of the machine
) STRICT;
