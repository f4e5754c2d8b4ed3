-- Streams whose first entries were dropped: the first entry that is kept. Those before it are deleted, or the drop under way will delete
-- them.
CREATE TABLE kept(stream INTEGER PRIMARY KEY, first INTEGER NOT NULL) STRICT;
