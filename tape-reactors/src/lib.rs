//! Reactors: what acts on due work of the Tape journal.
