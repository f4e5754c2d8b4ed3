//! The client of the Tape journal, over a server or an embedded store.
