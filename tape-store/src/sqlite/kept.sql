-- Streams whose first entries were dropped: the first one that is kept. Those before it are gone, or go as soon as whoever drops them
-- comes to it.
CREATE TABLE kept(stream INTEGER PRIMARY KEY, first INTEGER NOT NULL) STRICT;
