//! The feed of the Tape journal: filters, cursors and sinks.
