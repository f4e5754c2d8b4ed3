//! The wire contract of Tape.
