//! What followers cost that wait for something else than what is written.
