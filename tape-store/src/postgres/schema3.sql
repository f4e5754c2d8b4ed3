-- Version 3. Sessions and values are listed by name, by the index tape_head_named, which is made before this.
COMMENT ON INDEX tape_head_named IS 'the names of sessions and values, in the order of their bytes';
