//! Runnable agents on the Tape journal.
